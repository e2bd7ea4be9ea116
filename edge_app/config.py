"""The site configuration: one YAML file, every mistake listed at once, unknown keys named with the nearest key."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.bus import MqttSettings
from edge_app.contract.envelope import SLUG_PATTERN
from edge_app.delivery.aggregate import AggregateSettings
from edge_app.errors import ConfigurationError
from edge_app.health.health import HealthSettings
from edge_app.logs import LogSettings
from edge_app.perception.crops import CropSettings
from edge_app.perception.detect import DetectorSettings
from edge_app.perception.embed import EmbedderSettings
from edge_app.perception.track import TrackSettings
from edge_app.perception.tracklets import TrackletSettings
from edge_app.runtime.bundles import BundleSettings, is_bundle
from edge_app.settings import Settings
from edge_app.sources import together
from edge_app.sources.settings import CameraSettings
from edge_app.store.store import StoreSettings

Name = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=32)]


class TickSettings(Settings):
    """How the cameras' frames come together."""

    mode: Literal["live", "lockstep"] = "live"
    """`live`: the newest frame of every camera, older ones dropped. `lockstep`: every frame, in order of capture."""
    speed: float | None = Field(default=1.0, gt=0)
    """Pace of recordings: 1 is real time, null as fast as they can be read. Beside live cameras it is always 1."""
    tick_s: float = Field(default=0.1, gt=0, le=5)
    """In lockstep, the span of capture time that one step takes together."""


class Site(Settings):
    """One node: its cameras, the ways between them, its models, and where facts go."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a rejected address may hold a password

    site: Name
    """Name of the site in every topic."""
    node: Name
    """Name of this device in every topic and id; unique within the site."""
    cameras: tuple[CameraSettings, ...] = Field(min_length=1)
    """The cameras of this node."""
    links: tuple[LinkSettings, ...] = ()
    """Ways from camera to camera. Without any, nothing can be matched."""
    detector: DetectorSettings | None = None
    """The detector; only a simulated site that delivers detections needs none."""
    embedder: EmbedderSettings | None = None
    """The Re-ID embedder; only a simulated site that delivers detections needs none."""
    bundles: BundleSettings = BundleSettings()
    """Whose signed bundles of models are run."""
    ticks: TickSettings = TickSettings()
    """Live or in lockstep."""
    track: TrackSettings = TrackSettings()
    """Tracking within a camera."""
    crops: CropSettings = CropSettings()
    """Which views are embedded."""
    tracklets: TrackletSettings = TrackletSettings()
    """What becomes a tracklet."""
    associate: AssociateSettings = AssociateSettings()
    """Matching between cameras."""
    aggregate: AggregateSettings = AggregateSettings()
    """Flows, travel times and trips per interval."""
    store: StoreSettings = StoreSettings()
    """Where state and unsent facts survive a restart."""
    mqtt: MqttSettings | None = None
    """The broker; without it facts stay in the store."""
    health: HealthSettings = HealthSettings()
    """Heartbeat and Prometheus."""
    logs: LogSettings = LogSettings()
    """What is logged, and how."""

    @property
    def digest(self) -> str:
        """Names this configuration in every message. Where it is stored says nothing about what is said."""
        text = self.model_dump_json(exclude={"store"})
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def delivers_detections(self) -> bool:
        """True where simulated cameras deliver detections instead of pictures."""
        return all(camera.scheme == "sim" and "fidelity=detections" in camera.source for camera in self.cameras)


def load(path: Path) -> Site:
    """Read and check a configuration. Relative paths are relative to the file. Raises `ConfigurationError`."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"cannot be read: {error.strerror}"], str(path)) from None
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError([f"is not YAML: {_place(error)}"], str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"is not YAML: {' '.join(str(error).split())}"], str(path)) from None
    if not isinstance(raw, dict):
        raise ConfigurationError(["expected a mapping of settings (site:, node:, cameras:, …)"], str(path))
    return parse(raw, path)


def _place(error: yaml.MarkedYAMLError) -> str:
    """Where and what, without the text around it: nobody knows what secrets stand in a broken file."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + ", ".join(part for part in (error.context, error.problem) if part)


def parse(raw: dict[str, Any], path: Path) -> Site:
    """A configuration from its raw mapping; `path` names it in errors and anchors its relative paths."""
    problems = _cross_checks(raw)
    try:
        config = Site.model_validate(raw)
    except ValidationError as error:
        problems = [_plain(item) for item in error.errors()] + problems
        raise ConfigurationError(problems, str(path)) from None
    if not config.delivers_detections:
        problems += [
            f"{name}: missing; it is needed unless every camera is sim://…?fidelity=detections"
            for name in ("detector", "embedder")
            if getattr(config, name) is None
        ]
    if not config.bundles.keys:
        problems += [
            f"bundles.keys: missing; {name}.path is a bundle, and only signed ones are run: name its maker's public key"
            for name in ("detector", "embedder")
            if (model := getattr(config, name)) is not None and is_bundle(model.path)
        ]
    if problems:
        raise ConfigurationError(problems, str(path))
    return _anchored(config, path.parent)


def _plain(item: Any) -> str:
    """One mistake in words: where, what came, what was expected."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _keys_at(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        return f"{where}: unknown key" + (f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(known)}")
    if item["type"] == "missing":
        return f"{where}: missing"
    message = item["msg"].removeprefix("Value error, ")
    came = item.get("input")
    # an address with a password must not reach a log, nor one that stands where its variable's name belongs
    secret = "password" in where or (isinstance(came, str) and "@" in came)
    shown = isinstance(came, str | int | float | bool) and not secret
    return f"{where or 'configuration'}: {message}" + (f" (got {came!r})" if shown else "")


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """The known keys of the group of settings at a location."""
    model: Any = Site
    for part in location:
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside an annotation such as `tuple[LinkSettings, ...]` or `MqttSettings | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)


def _cross_checks(raw: dict[str, Any]) -> list[str]:
    """What no single setting can know; reads raw values, so that these mistakes are listed with all others."""
    cameras = [camera.get("id") for camera in _mappings(raw.get("cameras"))]
    links = _mappings(raw.get("links"))
    problems = [
        f"cameras: the id {name!r} is used {n} times"
        for name, n in Counter(str(c) for c in cameras if c is not None).items()
        if n > 1
    ]
    ends = [(link.get("from_camera"), link.get("to_camera")) for link in links]
    ways = Counter(f"{from_} → {to}" for from_, to in ends)
    problems += [f"links: {way} is given {n} times" for way, n in ways.items() if n > 1]
    for index, pair in enumerate(ends):
        for key, name in zip(("from_camera", "to_camera"), pair, strict=True):
            if name is not None and name not in cameras:
                near = difflib.get_close_matches(str(name), [str(c) for c in cameras], n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"the cameras are {', '.join(map(str, cameras))}"
                problems.append(f"links.{index}.{key}: there is no camera {name!r}; {hint}")
    return problems + _cameras_together(raw)


def _cameras_together(raw: dict[str, Any]) -> list[str]:
    """What cannot be together, of the cameras that are right by themselves."""
    cameras: list[CameraSettings] = []
    for camera in _mappings(raw.get("cameras")):
        with suppress(ValidationError):
            cameras.append(CameraSettings.model_validate(camera))
    with suppress(ValidationError):
        ticks = TickSettings.model_validate(raw.get("ticks") or {})
        return together.problems(cameras, ticks.mode, os.environ)
    return []


def _mappings(raw: Any) -> list[dict[str, Any]]:
    """The mappings in what should be a list of them; what is none is somebody else's mistake to name."""
    return [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []


def _anchored(config: Site, folder: Path) -> Site:
    """Relative paths made relative to the configuration's folder."""

    def anchor(settings: Any, *names: str) -> Any:
        if settings is None:
            return None
        paths = {name: getattr(settings, name) for name in names}
        moved = {name: (folder / value).resolve() for name, value in paths.items() if value is not None}
        return settings.model_copy(update=moved)

    def anchor_model(settings: Any) -> Any:
        if settings is None:
            return None
        return anchor(settings, "path").model_copy(update={"engine": anchor(settings.engine, "engines")})

    cameras = tuple(
        camera.model_copy(update={"source": str((folder / camera.source).resolve())})
        if camera.scheme == "file" and not camera.source.startswith("file://")
        else camera
        for camera in config.cameras
    )
    keys = tuple((folder / key).resolve() for key in config.bundles.keys)
    mqtt = config.mqtt
    if mqtt is not None and mqtt.tls is not None:
        mqtt = mqtt.model_copy(update={"tls": anchor(mqtt.tls, "ca", "certificate", "key")})
    return config.model_copy(
        update={
            "cameras": cameras,
            "detector": anchor_model(config.detector),
            "embedder": anchor_model(config.embedder),
            "bundles": anchor(config.bundles, "folder").model_copy(update={"keys": keys}),
            "store": anchor(config.store, "path"),
            "mqtt": mqtt,
        }
    )
