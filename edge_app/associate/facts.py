"""What the association says: facts, in the order they become decidable. A fact is never changed, only superseded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

WaitedFor: TypeAlias = Literal["evidence", "open_tracks", "deadline"]
Came: TypeAlias = tuple[tuple[str, float], ...]  # earlier tracklets that it may have been, and how probably
Box: TypeAlias = tuple[float, ...]  # x1, y1, x2, y2 in pixels of the frame


@dataclass(frozen=True, slots=True)
class Place:
    """Where a passage came into its camera's picture, and where it left it."""

    entry_zone: str
    exit_zone: str
    entry_box: Box
    exit_box: Box
    frame_width_px: int
    frame_height_px: int


@dataclass(frozen=True, slots=True)
class End:
    """One end of a match: a tracklet leaving a camera, or entering one."""

    camera: str
    track: str  # tracklet id
    time_s: float  # capture time of the exit (from) or of the entry (to)
    other_time_s: float | None = None  # of the same passage: when it had entered (from), when it will leave (to)
    place: Place | None = None  # None for a tracklet without a path


@dataclass(frozen=True, slots=True)
class Match:
    """The tracklet that entered at `to` is the one that left at `from_`."""

    event_id: str  # UUIDv7, the key by which a subscriber drops repeats
    observed_at_s: float  # capture time at which it was decided
    state: Literal["provisional", "confirmed"]
    global_id: str  # `{node}-{boot}-{counter}`, never reused
    link: str  # `{from camera}--{to camera}`
    from_: End
    to: End
    class_name: str
    transit_s: float
    posterior: float  # probability of this match among all candidates and "no match"
    margin: float  # log posterior odds against the best alternative, in nats
    runner_up: str | None  # tracklet id of the best alternative; None when that is "no match"
    decision_delay_s: float  # from the entry at `to` until now
    supersedes: str | None  # event_id of the provisional fact this one replaces
    embedding_version: str
    waited_for: WaitedFor | None = None  # why it was not said earlier; see `decide._conclude`
    similarity: float | None = None  # of the two passages, as they were compared
    came: Came = ()  # what is missing to 1 is nobody


@dataclass(frozen=True, slots=True)
class EffectiveLink:
    """What is true after a revision: `to_track` continues `from_track` under `global_id`, or begins it (None)."""

    to_track: str
    from_track: str | None
    global_id: str


@dataclass(frozen=True, slots=True)
class Revision:
    """An earlier fact was wrong, and this is what holds instead."""

    event_id: str
    observed_at_s: float
    kind: Literal["split", "merge", "retract"]
    revises: tuple[str, ...]  # event ids of the facts that no longer hold
    reason: str
    effective_links: tuple[EffectiveLink, ...]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """No earlier tracklet is this one: it begins a new identity. Counted in match rates, not published by itself."""

    event_id: str
    observed_at_s: float
    global_id: str
    to: End
    class_name: str
    posterior: float  # probability of "no match"
    decision_delay_s: float
    came: Came = ()  # as of a match


Fact: TypeAlias = Match | Revision | Unmatched


def standing_matches(facts: Iterable[Fact]) -> list[Match]:
    """The confirmed matches that no later fact took back, in the order they were said; repeats are dropped."""
    standing: dict[str, Match] = {}
    for fact in facts:
        if isinstance(fact, Match) and fact.state == "confirmed":
            standing.pop(fact.supersedes or "", None)
            standing.setdefault(fact.event_id, fact)
        elif isinstance(fact, Revision):
            for event_id in fact.revises:
                standing.pop(event_id, None)
    return list(standing.values())
