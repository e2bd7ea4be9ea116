"""`edge-app check`: everything a run would need, looked at without starting; every problem is listed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from edge_app.clock import Clock
from edge_app.config import Site, load
from edge_app.contract.errors import ContractError
from edge_app.errors import BrokerError, ConfigurationError, EdgeError, UploadError, WorldError
from edge_app.runtime.bundles import Today


class CheckError(EdgeError):
    """Something a run needs is not there. Leaves with the exit code of the first problem."""

    def __init__(self, problems: list[tuple[str, int]], where: Path) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        self._lines = [f"{where}: {count}", *(f"  - {text}" for text, _ in problems)]
        super().__init__("\n".join(self._lines))
        self.exit_code = problems[0][1]

    @property
    def lines(self) -> list[str]:
        return self._lines


def check_site(path: Path, lenient: bool = False) -> list[str]:
    """What was found, a line each. Raises `ConfigurationError`, or `CheckError` with every other problem.

    `lenient`: a live camera, a broker or a store of crops that is away, and may come back by itself, is found to be so
    and no problem.
    """
    config = load(path)
    live = {f"camera {camera.id}" for camera in config.cameras if camera.is_live}
    found: list[str] = []
    problems: list[tuple[str, int]] = []
    for name, look in _looks(config):
        try:
            found.append(f"{name}: {look()}")
        except ConfigurationError as error:
            problems += [(f"{name}: {problem}", error.exit_code) for problem in error.problems]
        except EdgeError as error:
            unreachable = isinstance(error, BrokerError | UploadError) and error.exit_code == WorldError.exit_code
            if lenient and (unreachable or name in live):
                found.append(f"{name}: AWAY, {error}")
                continue
            problems.append((f"{name}: {error}", error.exit_code))
        except ContractError as error:
            problems.append((f"{name}: {error}", 65))
    if problems:
        raise CheckError(problems, path)
    return found


def _looks(config: Site) -> Iterator[tuple[str, Callable[[], str]]]:
    known: list[str] = []  # classes of the detector, once it was opened
    if config.detector is not None:
        yield "detector", lambda: _detector(config, known)
    if config.embedder is not None:
        yield "embedder", lambda: _embedder(config)
    for camera in config.cameras:
        yield f"camera {camera.id}", lambda camera=camera: _camera(camera)  # type: ignore[misc]
    yield "links", lambda: _links(config)
    yield "messages", lambda: _messages(config)
    yield "store", lambda: _store(config)
    if config.collection.enabled:
        yield "collection", lambda: _collection(config, known)
    if config.health.prometheus_port is not None:
        yield "Prometheus", lambda: _prometheus(config)
    if config.look.port is not None:
        yield "look", lambda: _look(config)
    if config.mqtt is not None:
        yield "broker", lambda: _broker(config)
    if config.upload is not None:
        yield "upload", lambda: _upload(config)


def _detector(config: Site, known: list[str]) -> str:
    from edge_app.perception.models import open_site_detector

    assert config.detector is not None
    cameras = [camera.id for camera in config.cameras]
    detector = open_site_detector(config.detector, cameras, config.bundles, _today()).detector
    known += detector.class_names
    try:
        return f"{config.detector.path.name}, {detector.about()}"
    finally:
        detector.close()


def _embedder(config: Site) -> str:
    from edge_app.perception.models import open_site_embedder

    assert config.embedder is not None
    embedder, checked, bundle, unseen = open_site_embedder(config.embedder, config.bundles, _today())
    try:
        found = f"{config.embedder.path.name}, version {embedder.version}, {embedder.dimension} values"
        if unseen:
            found += f", makes nothing of pictures that are {', '.join(unseen)}"
        if bundle is None:
            return found
        made = bundle.manifest
        return f"{found}, {made.embedder.precision}, {made.name} {made.serial} signed by {bundle.signed_by}; {checked}"
    finally:
        embedder.close()


def _today() -> Today:
    clock = Clock()
    return Today(clock.wall(), clock.state == "ok")


def _camera(camera: object) -> str:
    from edge_app.errors import SourceError
    from edge_app.sources import CameraSettings, check_source

    assert isinstance(camera, CameraSettings)
    problem = check_source(camera)
    if problem is not None:
        raise SourceError(problem)
    return f"{camera.source} delivers pictures"


def _links(config: Site) -> str:
    alone = {c.id for c in config.cameras} - {c for x in config.links for c in (x.from_camera, x.to_camera)}
    return f"{len(config.links)} links" + (f"; cameras without any: {', '.join(sorted(alone))}" if alone else "")


def _messages(config: Site) -> str:
    from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES
    from edge_app.delivery.outgoing import Letterhead
    from edge_app.delivery.sizes import most_pages

    letterhead = Letterhead(config.site, config.node, "check", config_digest=config.digest)
    zones = {camera.id: list(camera.zones) for camera in config.cameras}
    classes = (config.detector.classes if config.detector else None) or ("car", "bus", "truck")
    pages = most_pages(letterhead, zones, config.links, classes)
    said = ", ".join(f"{kind} in {'one' if count == 1 else f'up to {count} pages'}" for kind, count in pages.items())
    return f"{said}; at most {PAYLOAD_LIMIT_BYTES} bytes each"


def _store(config: Site) -> str:
    from edge_app.store.opening import check_store

    return check_store(config.store.path)


def _collection(config: Site, known: list[str]) -> str:
    from edge_app.collection.told import told

    opened = known or config.detector is None  # where it could not be, that was said
    return told(config.collection, known if opened else None)


def _prometheus(config: Site) -> str:
    from edge_app.health.prometheus import check_port

    return check_port(config.health)


def _look(config: Site) -> str:
    from edge_app.look.serve import check_port

    return check_port(config.look)


def _broker(config: Site) -> str:
    from edge_app.bus import check_broker, check_topic

    assert config.mqtt is not None
    client_id = config.mqtt.client_id or f"crosslane-{config.site}-{config.node}"
    return check_broker(config.mqtt, client_id, check_topic(config.site, config.node))


def _upload(config: Site) -> str:
    from edge_app.collection.store_check import check_upload

    assert config.upload is not None
    return check_upload(config.upload, config.site, config.node)
