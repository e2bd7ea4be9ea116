"""Tiny worlds for the association: tracklets written by hand, and a seeded stream of look-alikes with its truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from edge_app.associate.draft import Rules
from edge_app.associate.settings import AssociateSettings, LinkSettings, TransitSettings
from edge_app.types import Tracklet

DIMENSION = 32


def event_id(time_s: float, content: str) -> str:
    return hashlib.sha256(f"{time_s!r}|{content}".encode()).hexdigest()[:32]


def link(from_camera: str, to_camera: str, typical_s: float = 10.0) -> LinkSettings:
    transit = TransitSettings(min_s=typical_s / 4, typical_s=typical_s, max_s=typical_s * 5)
    return LinkSettings(from_camera=from_camera, to_camera=to_camera, transit=transit)


def rules(*links: LinkSettings, boot: str = "b1", **settings: object) -> Rules:
    return Rules("node", boot, links, AssociateSettings(**settings), event_id)


def look(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def tracklet(
    name: str, camera: str, entry_s: float, exit_s: float, appearance: np.ndarray | None, class_name: str = "car"
) -> Tracklet:
    rows = np.zeros((0, DIMENSION), np.float32) if appearance is None else np.atleast_2d(appearance)
    return Tracklet(
        id=f"node/{camera}/b1/{name}",
        node="node",
        camera=camera,
        class_name=class_name,
        entry_time_s=entry_s,
        exit_time_s=exit_s,
        time_sigma_s=0.1,
        entry_zone="left",
        exit_zone="right",
        heading_rad=0.0,
        embeddings=rows,
        qualities=np.ones(len(rows), np.float32),
        embedding_version="v1",
        path_times_s=np.array([entry_s, exit_s]),
        path_boxes=np.zeros((2, 4), np.float32),
    )


def seen_by(one: Tracklet, version: str, dimension: int = DIMENSION) -> Tracklet:
    """The same passage as another network sees it: its own rotation of what there is to see, cut to its dimension."""
    turn = np.linalg.qr(np.random.default_rng(len(version) + ord(version[-1])).normal(size=(DIMENSION, DIMENSION)))[0]
    rows = (one.embeddings @ turn[:, :dimension]).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
    return replace(one, embeddings=rows, embedding_version=version)


@dataclass(frozen=True)
class Stream:
    tracklets: list[Tracklet]  # by exit time
    parents: dict[str, str | None]  # tracklet id → the tracklet that it truly continues
    rules: Rules


def stream(seed: int, vehicles: int = 120, rate: float = 0.25, models: int = 8, noise: float = 0.18) -> Stream:
    """Vehicles of a few models drive west → centre → (north | east); some begin at the centre, some turn off."""
    rng = np.random.default_rng(seed)
    roads = {"west": ("centre",), "centre": ("north", "east"), "north": (), "east": ()}
    shift = {camera: 0.15 * rng.normal(size=DIMENSION) for camera in roads}
    faces = rng.normal(size=(models, DIMENSION)) / DIMENSION**0.5
    tracklets, parents = [], {}
    time_s = 1000.0
    for vehicle in range(vehicles):
        time_s += rng.exponential(1 / rate)
        face = faces[rng.integers(models)] + 0.25 * rng.normal(size=DIMENSION) / DIMENSION**0.5
        camera, now, parent = ("west" if rng.random() < 0.7 else "centre"), time_s, None
        while True:
            dwell = rng.uniform(3, 8)
            rows = face + shift[camera] / DIMENSION**0.5 + noise * rng.normal(size=(4, DIMENSION)) / DIMENSION**0.5
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            item = tracklet(f"{vehicle}", camera, now, now + dwell, rows)
            tracklets.append(item)
            parents[item.id] = parent
            parent = item.id
            if not roads[camera] or rng.random() < 0.2:
                break
            camera = roads[camera][rng.integers(len(roads[camera]))]
            now += dwell + 12.0 * np.exp(0.25 * rng.normal())
    links = [link(a, b, 12.0) for a, onward in roads.items() for b in onward]
    tracklets.sort(key=lambda t: (t.exit_time_s, t.id))
    return Stream(tracklets, parents, rules(*links))
