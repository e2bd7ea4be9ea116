"""Detections → tracks: the `trackers` library's ByteTrack in capture seconds, one per camera.

The library owns association and motion; this adapter owns time, names and what survives a restart:

- ids are `{node}/{camera}/{boot}/{n}`; n counts up per camera for ever, also across restarts;
- a frame not newer than the last one is skipped and counted; a clock that jumps back further than `lost_after_s`
  ends every track of the camera and begins anew;
- a snapshot is JSON: what the library keeps in private is read and set by name, so the library's version is part of it;
- classes are not used to associate within a group, because detectors flicker between car and truck on one vehicle;
  `separate` names the groups that never share a track. A person and the two-wheeler under them are one, see `riders`.
  The class of a track is settled by vote in `tracklets`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.errors import StoreError
from edge_app.perception.riders import Riders
from edge_app.perception.tracker_state import library_state, set_library_state, time_of
from edge_app.settings import Settings
from edge_app.store.parts import sealed, unsealed
from edge_app.types import PERSON, Detections, Floats, Tracks

_FORMAT = "crosslane.tracks/2"


class TrackSettings(Settings):
    """Tracking within one camera (ByteTrack)."""

    frame_rate_hz: float = Field(default=10.0, gt=0)
    """Frames per second that usually reach the tracker: one step of its motion model. Real times are always used."""
    lost_after_s: float = Field(default=1.0, gt=0)
    """A track without a detection for this long has ended."""
    silent_after_s: float = Field(default=10.0, gt=0)
    """A camera without frames for this long, behind the newest of all cameras, has lost all its tracks."""
    strong_score: float = Field(default=0.25, gt=0, le=1)
    """Detections from here on are associated first; weaker ones only continue a track that found none."""
    new_track_score: float = Field(default=0.25, gt=0, le=1)
    """A detection needs this score to begin a track. Small detectors are seldom sure: of real vehicles from behind, a
    quarter of YOLOX-nano's boxes reach 0.37."""
    confirm_frames: int = Field(default=2, ge=1)
    """Consecutive detections before a track gets an id."""
    minimum_iou: float = Field(default=0.2, ge=0, le=1)
    """Least overlap of a detection with a track's predicted box."""
    separate: tuple[tuple[str, ...], ...] = (("person",),)
    """Groups of class names that never share a track with other classes. All classes not named form one more group."""
    two_wheelers: tuple[str, ...] = ("motorcycle", "bicycle")
    """Classes that a person rides: both together are one object, of this class. Empty: they are two."""
    riders_by_motion: bool = True
    """A person who moves as fast as this camera's vehicles, and the same way, is the first of `two_wheelers` that is
    asked for, though no machine was found. Switch it off where vehicles crawl, as in a car park."""


class TrackerBank:
    """The trackers of all cameras of a node."""

    def __init__(
        self, node: str, boot: str, cameras: Mapping[str, TrackSettings], class_names: tuple[str, ...]
    ) -> None:
        self._version = _library_version()
        self._cameras = {
            camera: CameraTracker(camera, f"{node}/{camera}/{boot}", settings, class_names)
            for camera, settings in cameras.items()
        }

    @property
    def skipped_frames(self) -> int:
        """Frames skipped since the start because they were not newer than their predecessor."""
        return sum(tracker.skipped_frames for tracker in self._cameras.values())

    def update(self, camera: str, time_s: float, detections: Detections) -> Tracks:
        """The detections of one frame → the confirmed tracks seen in it, and those that ended."""
        return self._cameras[camera].update(time_s, detections)

    def expire(self, now_s: float) -> tuple[str, ...]:
        """End the tracks of cameras whose last frame is older than `silent_after_s`: a dead camera must not keep
        its last objects open for ever. Returns the ended ids; call it once per tick with capture time."""
        return tuple(name for tracker in self._cameras.values() for name in tracker.expire(now_s))

    def snapshot(self) -> bytes:
        """Everything needed to go on exactly here after a restart."""
        states = {camera: tracker.state() for camera, tracker in self._cameras.items()}
        whole = {"trackers": self._version, "settings": self._settings(), "cameras": states}
        return sealed(_FORMAT, json.dumps(whole).encode())

    def restore(self, snapshot: bytes) -> tuple[str, ...]:
        """Go on where `snapshot` was taken: open tracks keep their ids, new ones are named with this boot.

        Returns the ids of open tracks whose camera is gone. Raises `StoreError` when the snapshot is damaged or made
        by other settings or another version of the library; nothing has changed then: begin anew and close all open
        tracklets.
        """
        try:
            stored = json.loads(unsealed(snapshot, _FORMAT))
            found, current = stored["settings"], self._settings()
            if stored["trackers"] != self._version:
                raise ValueError(f"they are of trackers {stored['trackers']}, this is {self._version}")
            changed = [camera for camera in current if found.get(camera, current[camera]) != current[camera]]
            if changed:
                raise ValueError(f"the track settings of {', '.join(changed)} changed")
            resumed = {camera: tracker.read(stored["cameras"][camera]) for camera, tracker in self._cameras.items()
                       if camera in stored["cameras"]}  # fmt: skip
            gone = [state for camera, state in stored["cameras"].items() if camera not in self._cameras]
            lost = tuple(str(name) for state in gone for names in state["names"] for name in names.values())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"the stored tracks are unusable ({error}); tracking begins anew") from None
        for camera, state in resumed.items():
            self._cameras[camera].resume(state)
        return lost

    def _settings(self) -> dict[str, str]:
        return {camera: tracker.fingerprint for camera, tracker in self._cameras.items()}


class CameraTracker:
    """The tracks of one camera: one library tracker per group of classes."""

    def __init__(self, camera: str, prefix: str, settings: TrackSettings, class_names: tuple[str, ...]) -> None:
        self.camera, self._prefix, self._settings = camera, prefix, settings
        self.fingerprint = f"{settings.model_dump_json()} {','.join(class_names)}"
        self.skipped_frames = 0
        self._group_of_class = _groups(settings, class_names)  # (C,) int64
        self._riders = Riders(class_names, settings.two_wheelers)
        self._counter = 0
        self._last_s: float | None = None
        self._libraries: list[Any] = self._fresh()
        self._names: list[dict[int, str]] = [{} for _ in self._libraries]  # per group: library id → track id

    def update(self, time_s: float, detections: Detections) -> Tracks:
        """The detections of one frame → the confirmed tracks seen in it, and those that ended."""
        ended: list[str] = []
        if self._last_s is not None and time_s <= self._last_s:
            if self._last_s - time_s <= self._settings.lost_after_s:
                self.skipped_frames += 1
                return Tracks(self.camera, time_s, (), *_no_rows())
            ended += self._restart()
        self._last_s = time_s
        detections = self._riders.together(detections, self._last_boxes())
        ids: list[str] = []
        rows: list[tuple[Any, ...]] = []
        group_of = self._group_of_class[detections.classes]
        for group, library in enumerate(self._libraries):
            chosen = slice(None) if len(self._libraries) == 1 else group_of == group
            found = library.update(_wrap(detections, chosen), timestamp=time_s)
            if len(found) and (confirmed := found.tracker_id >= 0).any():
                ids += [self._name(group, number) for number in found.tracker_id[confirmed].tolist()]
                rows.append((found.xyxy[confirmed], found.confidence[confirmed], found.class_id[confirmed]))
            ended += self._forget(group, {track.tracker_id for track in library.tracks})
        boxes, scores, classes = (np.concatenate(parts) for parts in zip(_no_rows(), *rows, strict=True))
        return Tracks(self.camera, time_s, tuple(ids), boxes, scores, classes, tuple(ended))

    def _last_boxes(self) -> Floats:
        """(T, 4) of all tracks that have an id."""
        known = [track for library in self._libraries for track in library.tracks if track.tracker_id >= 0]
        return np.array([track.state_estimator.kf.state[:4, 0] for track in known], np.float32).reshape(-1, 4)

    def expire(self, now_s: float) -> list[str]:
        """End all tracks when the last frame is older than `silent_after_s`, which is more than a camera lags."""
        silent = self._last_s is not None and now_s - self._last_s > self._settings.silent_after_s
        return self._restart() if silent and any(self._names) else []

    def state(self) -> dict[str, Any]:
        """As values for JSON, which keeps floats to the last bit."""
        return {
            "libraries": [library_state(library) for library in self._libraries],
            "names": [{str(number): name for number, name in names.items()} for names in self._names],
            "counter": self._counter,
            "last_s": self._last_s,
        }

    def read(self, state: dict[str, Any]) -> _Resumed:
        """What `state` was made of. Raises ValueError, TypeError or KeyError when it does not fit."""
        libraries = self._fresh()
        for library, stored in zip(libraries, state["libraries"], strict=True):
            set_library_state(library, stored)
        names = [{int(number): str(name) for number, name in names.items()} for names in state["names"]]
        if len(names) != len(libraries):
            raise ValueError(f"{len(names)} groups of names, expected {len(libraries)}")
        return _Resumed(libraries, names, int(state["counter"]), time_of(state["last_s"]))

    def resume(self, state: _Resumed) -> None:
        self._libraries, self._names, self._counter, self._last_s = state

    def _fresh(self) -> list[Any]:
        from trackers import ByteTrackTracker  # takes a second or two: supervision and matplotlib come with it

        settings = self._settings
        return [
            ByteTrackTracker(
                lost_track_buffer=max(round(settings.lost_after_s * 30), 1),  # the library counts 1/30 s
                frame_rate=settings.frame_rate_hz,
                track_activation_threshold=settings.new_track_score,
                minimum_consecutive_frames=settings.confirm_frames,
                minimum_iou_threshold=settings.minimum_iou,
                high_conf_det_threshold=settings.strong_score,
            )
            for _ in range(int(self._group_of_class.max(initial=0)) + 1)
        ]

    def _restart(self) -> list[str]:
        ended = [name for names in self._names for name in names.values()]
        self._libraries = self._fresh()
        self._names = [{} for _ in self._libraries]
        return ended

    def _name(self, group: int, number: int) -> str:
        names = self._names[group]
        if number not in names:
            self._counter += 1
            names[number] = f"{self._prefix}/{self._counter}"
        return names[number]

    def _forget(self, group: int, alive: set[int]) -> list[str]:
        names = self._names[group]
        return [names.pop(number) for number in [number for number in names if number not in alive]]


class _Resumed(NamedTuple):
    """The tracks of one camera as they were, read and found good."""

    libraries: list[Any]
    names: list[dict[int, str]]
    counter: int
    last_s: float | None


def _wrap(detections: Detections, chosen: Any) -> Any:
    import supervision

    return supervision.Detections(
        xyxy=detections.boxes[chosen], confidence=detections.scores[chosen], class_id=detections.classes[chosen]
    )


def _no_rows() -> tuple[Any, Any, Any]:
    nothing = Detections.empty()
    return nothing.boxes, nothing.scores, nothing.classes


def _groups(settings: TrackSettings, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """(C,) int64: the group of every class, numbered without gaps. Two-wheelers are tracked with persons."""
    owner = {name: index for index, group in enumerate(settings.separate, start=1) for name in group}
    if PERSON in owner and PERSON in class_names:
        owner |= dict.fromkeys(settings.two_wheelers, owner[PERSON])
    raw = np.array([owner.get(name, 0) for name in class_names], np.int64)
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def _library_version() -> str:
    from importlib.metadata import version

    return version("trackers")
