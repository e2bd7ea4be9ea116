"""Detections → tracks: the `trackers` library's ByteTrack in capture seconds, one per camera.

The library owns association and motion; this adapter owns time, names and what survives a restart:

- ids are `{node}/{camera}/{boot}/{n}`; n counts up per camera for ever, also across restarts;
- a frame not newer than the last one is skipped and counted; a clock that jumps back further than `lost_after_s`
  ends every track of the camera and begins anew;
- classes are not used to associate within a group, because detectors flicker between car and truck on one vehicle;
  `separate` names the groups that never share a track. The class of a track is settled by vote in `tracklets`.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.errors import StoreError
from edge_app.settings import Settings
from edge_app.types import Detections, Tracks

_FORMAT = "crosslane.tracks/1"


class TrackSettings(Settings):
    """Tracking within one camera (ByteTrack)."""

    frame_rate_hz: float = Field(default=10.0, gt=0)
    """Frames per second that usually reach the tracker: one step of its motion model. Real times are always used."""
    lost_after_s: float = Field(default=1.0, gt=0)
    """A track without a detection for this long has ended."""
    silent_after_s: float = Field(default=10.0, gt=0)
    """A camera without frames for this long, behind the newest of all cameras, has lost all its tracks."""
    strong_score: float = Field(default=0.5, gt=0, le=1)
    """Detections from here on are associated first; weaker ones only continue a track that found none."""
    new_track_score: float = Field(default=0.5, gt=0, le=1)
    """A detection needs this score to begin a track."""
    confirm_frames: int = Field(default=2, ge=1)
    """Consecutive detections before a track gets an id."""
    minimum_iou: float = Field(default=0.2, ge=0, le=1)
    """Least overlap of a detection with a track's predicted box."""
    separate: tuple[tuple[str, ...], ...] = (("person",),)
    """Groups of class names that never share a track with other classes. All classes not named form one more group."""


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
        header = {"format": _FORMAT, "trackers": self._version, "settings": self._settings()}
        states = {camera: tracker.state() for camera, tracker in self._cameras.items()}
        return json.dumps(header).encode() + b"\n" + pickle.dumps(states, protocol=5)

    def restore(self, snapshot: bytes) -> tuple[str, ...]:
        """Go on where `snapshot` was taken: open tracks keep their ids, new ones are named with this boot.

        Returns the ids of open tracks whose camera is gone. Raises `StoreError` when the snapshot is damaged or made
        by other settings or another version of the library: then begin anew and close all open tracklets.
        """
        head, _, body = snapshot.partition(b"\n")
        try:
            header = json.loads(head)
        except ValueError:
            raise StoreError("the stored tracks are damaged: no header; tracking begins anew") from None
        expected = {"format": _FORMAT, "trackers": self._version}
        found = {key: header.get(key) for key in expected} if isinstance(header, dict) else {}
        if found != expected:
            raise StoreError(f"the stored tracks are of {found}, expected {expected}; tracking begins anew")
        current, stored = self._settings(), header.get("settings", {})
        if not isinstance(stored, dict):
            raise StoreError("the stored tracks are damaged: no settings; tracking begins anew")
        changed = [camera for camera in current if stored.get(camera, current[camera]) != current[camera]]
        if changed:
            raise StoreError(f"the track settings of {', '.join(changed)} changed; tracking begins anew")
        try:
            states = _Unpickler(io.BytesIO(body)).load()
        except Exception as error:  # pickle raises nearly anything on damaged bytes
            raise StoreError(f"the stored tracks are damaged ({error}); tracking begins anew") from None
        for camera, tracker in self._cameras.items():
            if camera in states:
                tracker.resume(states[camera])
        gone = [state for camera, state in states.items() if camera not in self._cameras]
        return tuple(name for state in gone for names in state["names"] for name in names.values())

    def _settings(self) -> dict[str, str]:
        return {camera: tracker.fingerprint for camera, tracker in self._cameras.items()}


class CameraTracker:
    """The tracks of one camera: one library tracker per group of classes."""

    def __init__(self, camera: str, prefix: str, settings: TrackSettings, class_names: tuple[str, ...]) -> None:
        self.camera, self._prefix, self._settings = camera, prefix, settings
        self.fingerprint = f"{settings.model_dump_json()} {','.join(class_names)}"
        self.skipped_frames = 0
        self._group_of_class = _groups(settings.separate, class_names)  # (C,) int64
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

    def expire(self, now_s: float) -> list[str]:
        """End all tracks when the last frame is older than `silent_after_s`, which is more than a camera lags."""
        silent = self._last_s is not None and now_s - self._last_s > self._settings.silent_after_s
        return self._restart() if silent and any(self._names) else []

    def state(self) -> dict[str, Any]:
        return {
            "libraries": self._libraries,
            "names": self._names,
            "counter": self._counter,
            "last_s": self._last_s,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self._libraries, self._names = state["libraries"], state["names"]
        self._counter, self._last_s = state["counter"], state["last_s"]

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


class _Unpickler(pickle.Unpickler):
    """Reads only what a snapshot holds: the library's objects and numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        arrays = module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar")
        if module.startswith("trackers.") or arrays:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"unexpected {module}.{name}")


def _wrap(detections: Detections, chosen: Any) -> Any:
    import supervision

    return supervision.Detections(
        xyxy=detections.boxes[chosen], confidence=detections.scores[chosen], class_id=detections.classes[chosen]
    )


def _no_rows() -> tuple[Any, Any, Any]:
    nothing = Detections.empty()
    return nothing.boxes, nothing.scores, nothing.classes


def _groups(separate: tuple[tuple[str, ...], ...], class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """(C,) int64: the group of every class, numbered without gaps."""
    owner = {name: index for index, group in enumerate(separate, start=1) for name in group}
    raw = np.array([owner.get(name, 0) for name in class_names], np.int64)
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def _library_version() -> str:
    from importlib.metadata import version

    return version("trackers")
