"""What is worth keeping. Pure: a passage and the ledger in, which of its views and the next ledger out.

Two parts that know nothing of each other:

- **Controls**, by lot: a passage is one when a hash of its id says so, whatever it shows, and is kept whole. They are
  what models are judged by, so nothing here may prefer some of them: where their part of the budget is spent, they are
  lost, and counted as lost.
- **Chosen** passages, by worth: hard ones (the runner-up nearly won), new looks, rare classes, and the first of every
  camera and hour. Of each a few views, the best first, then those that look different.

The budget of each part is a bucket that fills with time and holds a sixth of a day, so that no 24 hours cost more than
a day's bytes, and a busy morning leaves something for the night. The emptier it is, the more a passage must be worth:
the price is one minus its level. Time here is the store's, which the wall clock's jumps do not touch; a step of the
clock buys no second budget.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from edge_app.collection.settings import CollectionSettings
from edge_app.contract.crop import Verdict
from edge_app.types import Floats

DAY_S = 86400.0
BURST = 6  # a bucket holds a day's bytes divided by this
RECENT = 256  # looks that a new one is compared with
POOR_QUALITY = 0.3  # a passage whose best view is below this is worth less
SAME_LOOK = 0.02  # 1 − cosine: a view this close to one already chosen shows nothing new

PartName: TypeAlias = Literal["chosen", "control"]
Why: TypeAlias = Literal["kept", "price", "budget"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a decision may know of a passage."""

    passage: str
    camera: str
    class_name: str
    entered_at_s: float
    verdict: Verdict
    qualities: Sequence[float]  # of its M views
    embeddings: Sequence[Floats | None]  # (D,) float32 unit rows, or None
    bytes: Sequence[int]  # what each view takes in a shard
    embedding_version: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Bytes that may be spent now."""

    level_bytes: float
    at_s: float  # in the store's time


@dataclass(frozen=True)
class Ledger:
    """What was spent and seen so far. `buckets` and `kept` outlive a restart, what looks were seen does not."""

    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    day: int = 0  # of the store's time
    kept: Mapping[str, int] = field(default_factory=dict)  # class, or camera and hour → passages kept this day
    version: str | None = None
    looks: Floats = field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )  # (N, D) latest passages of this version
    distances: tuple[float, ...] = ()  # of each of them to its nearest at that time


def is_control(passage: str, site: str, share: float) -> bool:
    """Drawn by lot: uniform over ids, the same on every machine and after every restart."""
    drawn = int.from_bytes(hashlib.sha256(f"control {site} {passage}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def decide(
    ledger: Ledger, one: Candidate, site: str, now_s: float, settings: CollectionSettings
) -> tuple[Ledger, list[int], PartName, Why]:
    """Which views of a passage are kept, in their order, and why none is.

    Args:
        now_s: the store's time, never smaller than before.
    """
    part: PartName = "control" if is_control(one.passage, site, settings.control_share) else "chosen"
    ledger = _turned(ledger, now_s)
    bucket = refilled(ledger.buckets.get(part), part, now_s, settings)
    views = list(range(len(one.qualities))) if part == "control" else diverse(one, settings.crops_per_passage)
    ledger, worth = _judged(ledger, one)
    cost, price = sum(one.bytes[view] for view in views), 1.0 - bucket.level_bytes / capacity_bytes(part, settings)
    why: Why = "kept"
    if cost > bucket.level_bytes:
        why = "budget"
    elif part == "chosen" and worth < price:
        why = "price"
    if why == "kept":
        bucket = replace(bucket, level_bytes=bucket.level_bytes - cost)
        if part == "chosen":
            ledger = replace(
                ledger, kept={**ledger.kept, **{cell: ledger.kept.get(cell, 0) + 1 for cell in cells(one)}}
            )
    ledger = replace(ledger, buckets={**ledger.buckets, part: bucket})
    return ledger, sorted(views) if why == "kept" else [], part, why


def part_bytes(part: PartName, settings: CollectionSettings) -> float:
    """A day's bytes of this part."""
    share = settings.control_bytes_share
    return settings.daily_bytes * (share if part == "control" else 1 - share)


def capacity_bytes(part: PartName, settings: CollectionSettings) -> float:
    return part_bytes(part, settings) / BURST


def refilled(bucket: Bucket | None, part: PartName, now_s: float, settings: CollectionSettings) -> Bucket:
    """The bucket now. A new one is full: with what flows in during a day it gives that day's bytes, not more."""
    capacity = capacity_bytes(part, settings)
    if bucket is None:
        return Bucket(capacity, now_s)
    rate = (part_bytes(part, settings) - capacity) / DAY_S
    return Bucket(min(bucket.level_bytes + rate * max(now_s - bucket.at_s, 0.0), capacity), max(now_s, bucket.at_s))


def diverse(one: Candidate, most: int) -> list[int]:
    """At most `most` views, the best first, then always the one with the largest quality · distance to the nearest
    chosen one. Views below half the best quality, and looks already chosen, are left out; views without an embedding
    are taken by quality when there is room. O(most · M · D)."""
    if not one.qualities:
        return []
    quality = np.array(one.qualities)
    usable = [view for view in range(len(quality)) if quality[view] >= quality.max() / 2]
    chosen = [int(quality.argmax())]
    while len(chosen) < most:
        gains = {
            view: quality[view] * distance
            for view in usable
            if view not in chosen and (distance := _nearest(one, view, chosen)) > SAME_LOOK
        }
        if not gains:
            break
        chosen.append(max(gains, key=lambda view: (gains[view], -view)))
    return chosen


def worth_of(one: Candidate, ledger: Ledger, newness: float) -> float:
    """In [0, 1]: how much a passage can teach. One strong reason is enough."""
    rare = [1.0 / (1 + ledger.kept.get(cell, 0)) for cell in cells(one)]
    boring = (1 - doubt(one.verdict)) * (1 - newness) * math.prod(1 - each for each in rare)
    return (1 - boring) * min(max(one.qualities, default=0.0) / POOR_QUALITY, 1.0)


def doubt(verdict: Verdict) -> float:
    """In [0, 1]: how close the best alternative came. Of what matched nothing only the posterior is known: all that is
    left may be one alternative. What was not decided is as likely easy as hard."""
    if verdict.state == "undecided" or verdict.posterior is None:
        return 0.5
    rival = verdict.runner_up if verdict.runner_up is not None else 1 - verdict.posterior
    return min(rival / max(verdict.posterior, 1e-9), 1.0)


def cells(one: Candidate) -> tuple[str, str]:
    """What is to be represented: its class, and its camera at this hour of the day, UTC."""
    return f"class {one.class_name}", f"hour {one.camera} {int(one.entered_at_s // 3600) % 24:02d}"


def _turned(ledger: Ledger, now_s: float) -> Ledger:
    """Counts of what is represented begin anew with every day of the store's time."""
    day = int(now_s // DAY_S)
    return ledger if day == ledger.day else replace(ledger, day=day, kept={})


def _judged(ledger: Ledger, one: Candidate) -> tuple[Ledger, float]:
    """The worth of a passage; its look is remembered, whatever becomes of it.

    Newness is a rank: the share of recent passages that were closer to what had been seen before. So it needs no
    threshold that would suit one embedder and not the next. Its cube counts: half of all are newer than the median.
    """
    rows = [row for row in one.embeddings if row is not None]
    if not rows:
        return ledger, worth_of(one, ledger, 0.0)
    look = np.mean(rows, axis=0)
    look = (look / max(float(np.linalg.norm(look)), 1e-9)).astype(np.float32)
    if one.embedding_version != ledger.version:
        ledger = replace(ledger, version=one.embedding_version, looks=look[None][:0], distances=())
    distance = 1.0 - float((ledger.looks @ look).max(initial=-1.0))
    closer = sum(other < distance for other in ledger.distances)
    newness = (closer / len(ledger.distances)) ** 3 if len(ledger.distances) >= 8 else 0.0
    worth = worth_of(one, ledger, newness)
    looks = np.concatenate([ledger.looks, look[None]])[-RECENT:]
    distances = (*ledger.distances, distance)[-RECENT:]
    return replace(ledger, looks=looks, distances=distances), worth


def _nearest(one: Candidate, view: int, chosen: Sequence[int]) -> float:
    """1 − cosine to the nearest chosen view; SAME_LOOK and a little where one of them has no embedding."""
    row = one.embeddings[view]
    others = [other for place in chosen if (other := one.embeddings[place]) is not None]
    if row is None or not others:
        return SAME_LOOK + 1e-6
    return 1.0 - max(float(row @ other) for other in others)
