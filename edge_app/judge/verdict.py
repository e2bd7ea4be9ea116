"""A run beside the truth: what was seen of each camera, matches by link, and where each true pair was lost.

    predicted     a confirmed match that no later fact took back
    correct       its two tracklets show the two passages of a true pair
    precision     correct / predicted
    recall        distinct true pairs found / true pairs
    seen recall   the same, of the pairs whose two passages both became tracklets

A lost pair is put under the first thing that was missing, so the reasons add up to the pairs that were lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from edge_app.associate.classes import alike
from edge_app.associate.facts import Match
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.judge.shares import Share
from edge_app.judge.truth import TruePair, TruePassage, Truth
from edge_app.types import Tracklet

DETECTOR = "the detector did not find it often enough"
TRACKER = "found, and no track of it was long enough"
CROPS = "tracked, and no view of it was embedded"
TIMES = "its transit is not within the link's (links: transit)"
CLASSES = "its class is another one there (associate.class_groups)"
TAKEN = "another one was taken for it"
DOUBT = "it was not probable enough"

_Pieces: TypeAlias = "dict[TruePassage, list[Tracklet]]"  # of a passage, in the order of their entries
REASONS = (DETECTOR, TRACKER, CROPS, TIMES, CLASSES, TAKEN, DOUBT)


@dataclass(frozen=True, slots=True)
class CameraVerdict:
    """What was seen of the passages of one camera."""

    camera: str
    seen: Share  # true passages that a tracklet shows
    tracklets: int
    pieces: int  # further tracklets of a passage that one shows already
    of_nothing: int  # tracklets that show no object


@dataclass(frozen=True, slots=True)
class LinkVerdict:
    """One directed link, or all together."""

    link: str
    precision: Share
    recall: Share
    seen_recall: Share


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first of `links` is all of them together."""

    cameras: tuple[CameraVerdict, ...]
    links: tuple[LinkVerdict, ...]
    lost: Mapping[str, Mapping[str, int]]  # reason → where (a camera, or a link) → pairs; all of `REASONS`

    def told(self, where: str) -> Iterator[str]:
        """In lines, for a person."""
        yield f"beside the truth in {where}:"
        for one in self.cameras:
            more = [f"{one.pieces} further pieces of them"] if one.pieces else []
            more += [f"{one.of_nothing} of nothing"] if one.of_nothing else []
            counted = f"counted {one.tracklets} of {one.seen.count}"
            yield f"  camera {one.camera}: seen {one.seen}; {counted}" + (f": {', '.join(more)}" if more else "")
        for each in self.links:
            seen = f"; of those seen {each.seen_recall}" if each.seen_recall.count != each.recall.count else ""
            yield f"  {each.link}: precision {each.precision}, recall {each.recall}{seen}"
        total = self.links[0].recall
        if total.hits < total.count:
            yield f"  {total.count - total.hits} of {total.count} true pairs were lost:"
        for reason, places in self.lost.items():
            if places:
                yield f"{sum(places.values()):8}  {reason}: {', '.join(f'{at} {n}' for at, n in places.items())}"

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Standard:
    """What a run is judged by, beside the truth: the site's own settings."""

    links: Sequence[LinkSettings]
    associate: AssociateSettings
    least_frames: int  # in which an object must be detected to become a tracklet


def judge(truth: Truth, tracklets: Sequence[Tracklet], matches: Sequence[Match], standard: Standard) -> Verdict:
    """`matches`: those that stand.

    O(T + M + P) for T tracklets, M matches and P true pairs, and the boxes of the frames in which paths are compared.
    """
    shown = {tracklet.id: truth.shown_by(tracklet) for tracklet in tracklets}
    pieces: _Pieces = defaultdict(list)
    for tracklet in sorted(tracklets, key=lambda one: one.entry_time_s):
        passage = shown[tracklet.id]
        if passage is not None:
            pieces[passage].append(tracklet)
    pairs = truth.pairs(standard.links)
    ends = [(match.link, shown.get(match.from_.track), shown.get(match.to.track)) for match in matches]
    true = {(pair.from_, pair.to) for pair in pairs}
    found = {(from_, to) for _, from_, to in ends if (from_, to) in true}
    loss = _Loss(pieces, {match.from_.track for match in matches}, {match.to.track for match in matches}, standard)
    lost: dict[str, Counter[str]] = {reason: Counter() for reason in REASONS}
    for pair in pairs:
        if (pair.from_, pair.to) not in found:
            reason, where = loss.why(pair)
            lost[reason][where] += 1
    cameras = sorted({passage.camera for passage in truth.passages} | {tracklet.camera for tracklet in tracklets})
    names = [None, *(link.id for link in standard.links)]
    return Verdict(
        tuple(_camera(camera, truth, tracklets, shown) for camera in cameras),
        tuple(_link(name, pairs, ends, set(pieces)) for name in names),
        lost,
    )


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why a true pair was not found."""

    pieces: _Pieces
    left_as: Collection[str]  # tracklets that a match continues
    came_as: Collection[str]  # tracklets that continue one
    standard: Standard

    def why(self, pair: TruePair) -> tuple[str, str]:
        """The reason, and the camera or link where it is."""
        for passage in (pair.from_, pair.to):
            if passage not in self.pieces:
                return (DETECTOR if passage.detected < self.standard.least_frames else TRACKER), passage.camera
        before, after = self.pieces[pair.from_][-1], self.pieces[pair.to][0]
        for tracklet in (before, after):
            if not len(tracklet.embeddings):
                return CROPS, tracklet.camera
        transit = next(link.transit for link in self.standard.links if link.id == pair.link)
        if not transit.min_s <= after.entry_time_s - before.exit_time_s <= transit.max_s:
            return TIMES, pair.link
        if not alike(self.standard.associate, before.class_name, after.class_name):
            return CLASSES, pair.link
        return (TAKEN if before.id in self.left_as or after.id in self.came_as else DOUBT), pair.link


def _camera(
    camera: str, truth: Truth, tracklets: Sequence[Tracklet], shown: Mapping[str, TruePassage | None]
) -> CameraVerdict:
    passages = [passage for passage in truth.passages if passage.camera == camera]
    here = [shown[tracklet.id] for tracklet in tracklets if tracklet.camera == camera]
    objects = {passage for passage in here if passage is not None}
    nothing = here.count(None)
    return CameraVerdict(
        camera, Share(len(objects), len(passages)), len(here), len(here) - nothing - len(objects), nothing
    )


def _link(
    name: str | None,
    pairs: Sequence[TruePair],
    ends: Sequence[tuple[str, TruePassage | None, TruePassage | None]],
    seen: Collection[TruePassage],
) -> LinkVerdict:
    """The row of one link, or of all where `name` is None."""
    wanted = {(pair.from_, pair.to) for pair in pairs if name in (None, pair.link)}
    said = [(from_, to) for link, from_, to in ends if name in (None, link)]
    possible = {pair for pair in wanted if pair[0] in seen and pair[1] in seen}
    found = wanted & set(said)
    return LinkVerdict(
        name or "all links",
        Share(sum(pair in wanted for pair in said), len(said)),
        Share(len(found), len(wanted)),
        Share(len(found & possible), len(possible)),
    )
