"""The site configuration: one YAML file, every mistake listed at once, unknown keys named with the nearest key."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator

from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.bus import MqttSettings
from edge_app.collection.settings import CollectionSettings
from edge_app.collection.upload_settings import UploadSettings
from edge_app.contract.mistakes import MOST, mistakes
from edge_app.contract.yaml import YamlError, plain, read
from edge_app.delivery.aggregate import AggregateSettings
from edge_app.errors import ConfigurationError
from edge_app.health.health import HealthSettings
from edge_app.logs import LogSettings
from edge_app.look.settings import LookSettings
from edge_app.perception.crops import CropSettings
from edge_app.perception.detect import DetectorSettings
from edge_app.perception.embed import EmbedderSettings
from edge_app.perception.finished import TrackletSettings
from edge_app.perception.recorded import RecordedSettings
from edge_app.perception.track import TrackSettings
from edge_app.runtime.bundles import BundleSettings, is_bundle
from edge_app.settings import Name, Polygon, Settings
from edge_app.sources import together
from edge_app.sources.settings import CameraSettings
from edge_app.store.store import StoreSettings

ADVISED = 12  # mistakes of one kind that come with advice, and names that it lists
LONGEST_NAME = 64  # of a camera that is looked for among the others


def _is_recorded(raw: Any) -> str:
    recorded = "recorded" in raw if isinstance(raw, dict) else isinstance(raw, RecordedSettings)
    return "boxes from a file" if recorded else "a model"


AnyDetector = Annotated[
    Annotated[DetectorSettings, Tag("a model")] | Annotated[RecordedSettings, Tag("boxes from a file")],
    Discriminator(_is_recorded),
]


class TickSettings(Settings):
    """How the cameras' frames come together."""

    mode: Literal["live", "lockstep"] = "live"
    """`live`: the newest frame of every camera, older ones dropped. `lockstep`: every frame, in order of capture."""
    speed: float | None = Field(default=1.0, gt=0)
    """Pace of recordings: 1 is real time, null as fast as they can be read. Beside live cameras it is always 1."""
    tick_s: float = Field(default=0.1, ge=0.001, le=5)
    """In lockstep, the span of capture time that one step takes together."""


class Site(Settings):
    """One node: its cameras, the ways between them, its models, and where facts go."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a rejected address may hold a password

    site: Name
    """Name of the site in every topic."""
    node: Name
    """Name of this device in every topic and id; unique within the site."""
    cameras: tuple[CameraSettings, ...]
    """The cameras of this node."""
    links: tuple[LinkSettings, ...] = ()
    """Ways from camera to camera. Without any, nothing can be matched."""
    detector: AnyDetector | None = None
    """The detector, a model or boxes from a file; only a simulated site that delivers detections needs none."""
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
    collection: CollectionSettings = CollectionSettings()
    """Crops kept for training; none unless asked for."""
    store: StoreSettings = StoreSettings()
    """Where state and unsent facts survive a restart."""
    upload: UploadSettings | None = None
    """The store that crops are sent to; without it they stay in the spool, within its bounds."""
    mqtt: MqttSettings | None = None
    """The broker; without it facts stay in the store."""
    health: HealthSettings = HealthSettings()
    """Heartbeat and Prometheus."""
    look: LookSettings = LookSettings()
    """A page of what the cameras see."""
    logs: LogSettings = LogSettings()
    """What is logged, and how."""

    @field_validator("cameras")
    @classmethod
    def _some(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        if not cameras:  # a `min_length` would also complain of a list whose only camera has a mistake
            raise ValueError("at least one camera is needed")
        return cameras

    @property
    def areas(self) -> dict[str, Polygon]:
        """By camera, where only a part of its picture counts."""
        return {camera.id: camera.area for camera in self.cameras if camera.area is not None}

    @property
    def digest(self) -> str:
        """Names this configuration in every message. What is stored or shown does not change what is said."""
        text = self.model_dump_json(exclude={"store", "collection", "upload", "look"})
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def delivers_detections(self) -> bool:
        """True where simulated cameras deliver detections instead of pictures."""
        return all(camera.scheme == "sim" and "fidelity=detections" in camera.source for camera in self.cameras)


def load(path: Path) -> Site:
    """Read and check a configuration. Relative paths are relative to the file. Raises `ConfigurationError`."""
    try:
        raw = read(path)
    except YamlError as error:
        raise ConfigurationError(error.problems, str(path)) from None
    return parse(raw, path)


def parse(raw: dict[str, Any], path: Path) -> Site:
    """A configuration from its raw mapping; `path` names it in errors, relative paths are relative to its folder."""
    problems = _cross_checks(raw)
    try:
        config = Site.model_validate(raw, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigurationError(mistakes(error, Site) + problems, str(path)) from None
    if not config.delivers_detections:
        problems += [
            f"{name}: missing; it is needed unless every camera is sim://…?fidelity=detections"
            for name in ("detector", "embedder")
            if getattr(config, name) is None
        ]
    if isinstance(config.detector, RecordedSettings):
        problems += [
            f"detector.recorded: boxes of recordings are given, and camera {camera.id} is live: give `path`, a model"
            for camera in config.cameras
            if camera.is_live
        ]
    if config.collection.enabled and config.delivers_detections:
        problems.append("collection.enabled: these cameras deliver detections; there are no pictures to keep crops of")
    if config.upload is not None and not config.collection.enabled:
        problems.append("upload: nothing to send: set collection.enabled as well, or leave upload out")
    if not config.bundles.keys:
        problems += [
            f"bundles.keys: missing; {name}.path is a bundle, and only signed ones are run: name its maker's public key"
            for name in ("detector", "embedder")
            if (model := getattr(config, name)) is not None and is_bundle(model.path)
        ]
    if problems:
        raise ConfigurationError(problems, str(path))
    return config


def _cross_checks(raw: dict[str, Any]) -> list[str]:
    """What no single setting can know; reads raw values, so that these mistakes are listed with all others."""
    cameras, links = _mappings(raw.get("cameras")), _mappings(raw.get("links"))
    names = [name for camera in cameras if isinstance(name := camera.get("id"), str)]
    problems = [f"cameras: the id {plain(name)!r} is used {n} times" for name, n in Counter(names).items() if n > 1]
    ends = [(link.get("from_camera"), link.get("to_camera")) for link in links]
    ways = Counter(f"{from_} → {to}" for from_, to in ends if isinstance(from_, str) and isinstance(to, str))
    problems += [f"links: {plain(way)} is given {n} times" for way, n in ways.items() if n > 1]
    problems += _cameras_together(raw)
    if not names or len(names) < len(raw["cameras"]):
        return problems  # a camera without a name is its own mistake, which ways to it only repeat
    known = set(names)
    lost = [
        (f"links.{index}.{key}", name)
        for index, pair in enumerate(ends)
        for key, name in zip(("from_camera", "to_camera"), pair, strict=True)
        if isinstance(name, str) and name not in known
    ]
    problems += [f"{key}: there is no camera {plain(name)!r}; {_nearest(name, names)}" for key, name in lost[:ADVISED]]
    more = [f"links: {len(lost) - ADVISED:,} more name a camera that is not there"] if len(lost) > ADVISED else []
    return problems[:MOST] + more


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


def _nearest(name: str, cameras: list[str]) -> str:
    near = difflib.get_close_matches(name, cameras, n=1) if len(name) <= LONGEST_NAME else []
    if near:
        return f"did you mean {near[0]!r}?"
    more = ", …" if len(cameras) > ADVISED else ""
    return f"the cameras are {', '.join(map(plain, cameras[:ADVISED]))}{more}"


def _mappings(raw: Any) -> list[dict[str, Any]]:
    """The mappings in what should be a list of them; what is none is somebody else's mistake to name."""
    return [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
