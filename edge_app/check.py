"""`edge-app check`: everything a run would need, looked at without starting; every problem is listed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from edge_app.config import SiteConfig, load
from edge_app.contract.errors import ContractError
from edge_app.errors import BrokerError, BrokerRefusedError, ConfigurationError, EdgeError


class CheckError(EdgeError):
    """Something a run needs is not there. Leaves with the exit code of the first problem."""

    def __init__(self, problems: list[tuple[str, int]], where: Path) -> None:
        lines = [f"  - {text}" for text, _ in problems]
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__("\n".join([f"{where}: {count}", *lines]))
        self.exit_code = problems[0][1]


def check_site(path: Path, lenient: bool = False) -> list[str]:
    """What was found, a line each. Raises `ConfigurationError`, or `CheckError` with every other problem.

    `lenient`: a live camera or a broker that is away, and may come back by itself, is found to be so and no problem.
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
            unreachable = isinstance(error, BrokerError) and not isinstance(error, BrokerRefusedError)
            if lenient and (unreachable or name in live):
                found.append(f"{name}: AWAY, {error}")
                continue
            problems.append((f"{name}: {error}", error.exit_code))
        except ContractError as error:
            problems.append((f"{name}: {error}", 65))
    if problems:
        raise CheckError(problems, path)
    return found


def _looks(config: SiteConfig) -> Iterator[tuple[str, Callable[[], str]]]:
    if config.detector is not None:
        yield "detector", lambda: _detector(config)
    if config.embedder is not None:
        yield "embedder", lambda: _embedder(config)
    for camera in config.cameras:
        yield f"camera {camera.id}", lambda camera=camera: _camera(camera)  # type: ignore[misc]
    yield "links", lambda: _links(config)
    yield "store", lambda: _store(config)
    if config.mqtt is not None:
        yield "broker", lambda: _broker(config)


def _detector(config: SiteConfig) -> str:
    from edge_app.bundles import open_site_detector

    assert config.detector is not None
    detector = open_site_detector(config)
    try:
        kept = config.detector.classes or detector.class_names
        return f"{config.detector.path.name}, {detector.head} head, {len(kept)} classes, {detector.engine.name}"
    finally:
        detector.close()


def _embedder(config: SiteConfig) -> str:
    from edge_app.bundles import open_site_embedder

    assert config.embedder is not None
    embedder, checked, bundle = open_site_embedder(config)
    try:
        found = f"{config.embedder.path.name}, version {embedder.version}, {embedder.dimension} values"
        if bundle is None:
            return found
        made = bundle.manifest
        return f"{found}, {made.embedder.precision}, {made.name} {made.serial} signed by {bundle.signed_by}; {checked}"
    finally:
        embedder.close()


def _camera(camera: object) -> str:
    from edge_app.errors import SourceError
    from edge_app.sources import CameraSettings, check_source

    assert isinstance(camera, CameraSettings)
    problem = check_source(camera)
    if problem is not None:
        raise SourceError(problem)
    return f"{camera.source} delivers pictures"


def _links(config: SiteConfig) -> str:
    alone = {c.id for c in config.cameras} - {c for x in config.links for c in (x.from_camera, x.to_camera)}
    return f"{len(config.links)} links" + (f"; cameras without any: {', '.join(sorted(alone))}" if alone else "")


def _store(config: SiteConfig) -> str:
    from edge_app.store import check_store

    return check_store(config.store.path)


def _broker(config: SiteConfig) -> str:
    from edge_app.mqtt import check_broker

    assert config.mqtt is not None
    return check_broker(config.mqtt, config.mqtt.client_id or f"crosslane-{config.site}-{config.node}")
