"""What cameras of one node cannot be together. Values in, problems in words out."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Literal

from edge_app.sources.settings import CameraSettings


def problems(
    cameras: Sequence[CameraSettings], mode: Literal["live", "lockstep"], environment: Container[str]
) -> list[str]:
    """Every mistake that no camera shows by itself, a line each. `environment`: the names of its variables."""
    found = [
        f"camera {camera.id}: the environment variable {camera.password_env} (`password_env`) is not set"
        for camera in cameras
        if camera.password_env is not None and camera.password_env not in environment
    ]
    if mode == "lockstep":
        return found + [
            f"camera {camera.id} ({camera.source}) is live; lockstep plays recordings and sim:// only"
            for camera in cameras
            if camera.is_live
        ]
    if any(camera.is_live for camera in cameras):
        found += [problem for camera in cameras if (problem := _beside_live(camera)) is not None]
    return found


def _beside_live(camera: CameraSettings) -> str | None:
    """A live camera shows the present, and passages of another time than the others' can never be matched."""
    if camera.scheme == "sim":
        return f"camera {camera.id} is simulated and lives in a time of its own; run it without the live cameras"
    if not camera.is_live and camera.start_time is not None:
        return (
            f"camera {camera.id}: a `start_time` ({camera.start_time.isoformat()}) cannot stand beside live cameras; "
            "leave it out, and the recording plays as if it happened now"
        )
    return None
