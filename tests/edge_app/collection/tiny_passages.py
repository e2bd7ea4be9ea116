"""Passages for tests: views with pixels, the tracklet that they become, and what the association says of it."""

from __future__ import annotations

import numpy as np

from edge_app.associate.facts import End, Match, Unmatched
from edge_app.types import Tracklet, View

START_S = 1_700_000_000.0
BOX = np.array([10.4, 20, 74, 68], np.float32)  # its crop is 64 × 48


def name(track: int, camera: str = "east") -> str:
    return f"edge-1/{camera}/1/{track}"


def view(track: int, number: int = 0, *, camera: str = "east", persons=(), quality: float = 0.8) -> View:
    rng = np.random.default_rng(1000 * track + number)
    row = rng.normal(size=8).astype(np.float32)
    return View(
        track=name(track, camera),
        camera=camera,
        time_s=START_S + 10 * track + number,
        box=BOX,
        quality=quality,
        crop=rng.integers(0, 256, (48, 64, 3), np.uint8),
        score=0.9,
        persons=np.array(persons, np.float32).reshape(-1, 4),
        embedding=row / np.linalg.norm(row),
        embedding_version="v1",
    )


def tracklet(track: int, *, camera: str = "east", class_name: str = "car") -> Tracklet:
    rows = np.stack([view(track, number).embedding for number in range(3)])
    return Tracklet(
        id=name(track, camera),
        node="edge-1",
        camera=camera,
        class_name=class_name,
        entry_time_s=START_S + 10 * track,
        exit_time_s=START_S + 10 * track + 9,
        time_sigma_s=0.1,
        entry_zone="left",
        exit_zone="right",
        heading_rad=0.0,
        embeddings=rows,
        qualities=np.ones(3, np.float32),
        embedding_version="v1",
        path_times_s=np.zeros(0),
        path_boxes=np.zeros((0, 4), np.float32),
        frame_px=(640, 360),
    )


def unmatched(track: int, posterior: float = 0.6) -> Unmatched:
    end = End("east", name(track), START_S)
    return Unmatched("event", START_S, "g-1", end, "car", posterior, 1.0)


def match(track: int, state: str = "confirmed") -> Match:
    return Match(
        event_id="event",
        observed_at_s=START_S,
        state=state,
        global_id="g-1",
        link="west--east",
        from_=End("west", "edge-1/west/1/5", START_S),
        to=End("east", name(track), START_S),
        class_name="car",
        transit_s=9.0,
        posterior=0.8,
        margin=float(np.log(4.0)),
        runner_up=None,
        decision_delay_s=1.0,
        supersedes=None,
        embedding_version="v1",
        similarity=0.7,
    )
