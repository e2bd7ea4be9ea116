"""What the association compares: how alike two passages are, in one number. Its only owner, for both halves.

    moved  e_i − c / (c + MEAN_WEIGHT) · (μ_camera − μ_site), of unit length    an embedding, free of its camera's cast
    similarity = mean of the TOP largest cosines between the moved rows of both passages

Symbols: e_i a unit row; μ_camera the running mean of one camera's passages, c how many stand behind it.

Two kinds of pairs are certain without a label, in any recording (`certain`):

    genuine    the first and the last third of one track
    impostor   two tracks that one camera saw at once, a third of each

Both kinds compare a third with a third, because the mean of the largest cosines grows with their number.
Both are of one camera. A vehicle on two cameras is less alike than itself a moment later, so the genuine ones are an
upper bound, and tell embedders apart rather than what to expect on a link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TOP = 3  # cosines averaged: robust against one bad view on either side
MEAN_WEIGHT = 40.0  # passages before a camera's mean is trusted half
MEAN_MEMORY = 500.0  # passages after which a camera's mean forgets
THIRDS = 3  # a track with fewer rows has no first and last third


class Look(Protocol):
    """What has embeddings to compare: a passage, a tracklet, a proxy."""

    @property
    def embedding_version(self) -> str: ...
    @property
    def embeddings(self) -> Floats: ...  # (M, D) float32, unit rows


@dataclass(frozen=True, slots=True)
class CameraMean:
    """How a camera colours the embeddings of one version."""

    camera: str
    embedding_version: str
    mean: Floats  # (D,) float32, mean embedding
    count: float  # passages behind the mean, capped so that old ones fade


def comparable(left: Look, right: Look) -> bool:
    """Both were seen, by one version of one embedder. Nothing else is ever compared: numbers of two embedders say
    nothing about each other, and nothing in them shows it."""
    same = left.embedding_version == right.embedding_version and left.embeddings.shape[1:] == right.embeddings.shape[1:]
    return same and len(left.embeddings) > 0 and len(right.embeddings) > 0


def new_mean(camera: str, look: Look) -> CameraMean:
    return CameraMean(camera, look.embedding_version, np.zeros(look.embeddings.shape[1], np.float32), 0.0)


def learn_camera(camera: CameraMean, embeddings: Floats) -> CameraMean:
    """One more passage of this camera; `embeddings` (M, D) unit rows, M ≥ 1."""
    count = min(camera.count + 1.0, MEAN_MEMORY)
    return replace(camera, mean=camera.mean + (embeddings.mean(0) - camera.mean) / np.float32(count), count=count)


def site_mean(cameras: Iterable[CameraMean]) -> Floats:
    """(D,) float32: the mean of all cameras of one version, each by the trust in it."""
    known = list(cameras)
    weights = np.array([one.count / (one.count + MEAN_WEIGHT) for one in known], np.float32)
    mean: Floats = np.average([one.mean for one in known], axis=0, weights=weights + 1e-6).astype(np.float32)
    return mean


def debias(embeddings: Floats, camera: CameraMean, site: Floats) -> Floats:
    """Embeddings as an average camera would have seen them: (M, D) unit rows.

    The camera's mean is shrunk towards the mean of the site while it rests on few passages.
    """
    trust = np.float32(camera.count / (camera.count + MEAN_WEIGHT))
    moved = embeddings - trust * (camera.mean - site)
    unit: Floats = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), np.float32(1e-6))
    return unit


def similarity(left: Floats, right: Floats) -> float:
    """Mean of the `TOP` largest cosines between two sets of unit rows."""
    cosines = np.sort((left @ right.T).ravel())[::-1]
    return float(cosines[:TOP].mean())


@dataclass(frozen=True, slots=True)
class Track:
    """One passage as far as its similarities ask."""

    camera: str
    entered_at_s: float
    left_at_s: float
    embeddings: Floats  # (M, D) float32, unit rows, in order of time; M may be 0


@dataclass(frozen=True, slots=True)
class Certain:
    """Similarities of pairs about which there is no doubt."""

    genuine: NDArray[np.float64]  # (G,)
    impostor: NDArray[np.float64]  # (I,)


def debiased(tracks: Sequence[Track]) -> list[Track]:
    """Every track as an average camera would have seen it, by the means of these tracks. Those of one embedder only."""
    means: dict[str, CameraMean] = {}
    for track in tracks:
        if len(track.embeddings):
            known = means.get(track.camera) or CameraMean(
                track.camera, "", np.zeros(track.embeddings.shape[1], np.float32), 0.0
            )
            means[track.camera] = learn_camera(known, track.embeddings)
    if not means:
        return list(tracks)
    site = site_mean(means.values())
    return [
        replace(track, embeddings=debias(track.embeddings, means[track.camera], site))
        if len(track.embeddings)
        else track
        for track in tracks
    ]


def certain(tracks: Sequence[Track]) -> Certain:
    """The certain pairs among tracks of one embedder, de-biased already. O(T log T + pairs)."""
    long = [track for track in tracks if len(track.embeddings) >= THIRDS]
    genuine = [similarity(*_ends(track)) for track in long]
    impostor = [similarity(_ends(left)[0], _ends(right)[1]) for left, right in at_once(long)]
    return Certain(np.array(genuine, np.float64), np.array(impostor, np.float64))


def at_once(tracks: Iterable[Track]) -> Iterator[tuple[Track, Track]]:
    """Every two tracks that one camera saw at the same time, the earlier one first."""
    open_now: dict[str, list[Track]] = {}
    for track in sorted(tracks, key=lambda one: (one.entered_at_s, one.left_at_s)):
        still = [one for one in open_now.get(track.camera, []) if one.left_at_s > track.entered_at_s]
        for one in still:
            yield one, track
        open_now[track.camera] = [*still, track]


def _ends(track: Track) -> tuple[Floats, Floats]:
    """First and last third of its rows."""
    third = len(track.embeddings) // THIRDS
    return track.embeddings[:third], track.embeddings[-third:]
