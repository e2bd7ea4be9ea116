"""Why passages were not matched, as far as the passages themselves tell: counts by reason, for a person to act on.

Nothing here decides. A passage without a match is put under the first thing that was missing, in the order in which the
association asks: a link, somebody who left its other end, the travel time, the class, embeddings, the probability.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_app.associate.classes import alike
from edge_app.associate.settings import AssociateSettings, LinkSettings
from edge_app.types import Tracklet


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a finished tracklet can be a reason."""

    id: str
    camera: str
    class_name: str
    entry_time_s: float
    exit_time_s: float
    embedding_version: str | None  # None when no view of it was embedded
    side_px: float  # shorter side of its largest box


def seen(tracklet: Tracklet) -> Seen:
    boxes = tracklet.path_boxes
    sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return Seen(
        tracklet.id,
        tracklet.camera,
        tracklet.class_name,
        tracklet.entry_time_s,
        tracklet.exit_time_s,
        tracklet.embedding_version if len(tracklet.embeddings) else None,
        float(sides.max(initial=0.0)),
    )


def reasons(
    passages: Sequence[Seen],
    parents: dict[str, str],
    links: Sequence[LinkSettings],
    settings: AssociateSettings,
    minimum_side_px: float,
) -> Counter[str]:
    """Reason → passages that continue no earlier one. O(P · C) for P passages with C candidates in their travel times.

    `parents`: passage → the earlier one it was matched to, both by id. `minimum_side_px`: `crops.minimum_side_px`.
    """
    left: dict[str, list[Seen]] = defaultdict(list)  # by camera, in the order of their exits
    for one in sorted(passages, key=lambda passage: passage.exit_time_s):
        left[one.camera].append(one)
    exits = {camera: [one.exit_time_s for one in ones] for camera, ones in left.items()}
    taken = set(parents.values())
    found: Counter[str] = Counter()
    for passage in passages:
        if passage.id in parents:
            continue
        ways = [link for link in links if link.to_camera == passage.camera]
        candidates = [one for link in ways for one in _in_time(link, passage, left, exits)]
        same = [one for one in candidates if alike(settings, one.class_name, passage.class_name)]
        if not ways:
            found[f"no link leads to camera {passage.camera}" if links else "no links are configured (links:)"] += 1
        elif not candidates:
            found[_nobody_in_time(passage.camera, ways, left)] += 1
        elif not same:
            found["its candidates are of another class (associate.class_groups)"] += 1
        else:
            found[_not_alike(passage, same, taken, minimum_side_px)] += 1
    return found


def _nobody_in_time(camera: str, ways: Sequence[LinkSettings], left: Mapping[str, list[Seen]]) -> str:
    origins = sorted({link.from_camera for link in ways})
    if any(origin in left for origin in origins):
        return "nobody had left a linked camera within the link's travel times (links: transit)"
    return f"no passage at all on camera {', '.join(origins)}, where the links to {camera} begin"


def _not_alike(passage: Seen, candidates: list[Seen], taken: set[str], minimum_side_px: float) -> str:
    """There were candidates: what was wrong with their looks."""
    if passage.embedding_version is None:
        return f"it has no embedding: {_no_embedding(passage, minimum_side_px)}"
    embedded = [one for one in candidates if one.embedding_version is not None]
    if not embedded:
        return f"its candidates have no embedding: {_no_embedding(candidates[0], minimum_side_px)}"
    if all(one.embedding_version != passage.embedding_version for one in embedded):
        return "its candidates were embedded by another model"
    if all(one.id in taken for one in embedded):
        return "its candidates went on as another passage"
    return "no candidate was probable enough (associate.prefer)"


def told(passages: Sequence[Seen], matched: int, counts: Counter[str]) -> Iterator[str]:
    """The account in lines."""
    if not passages:
        yield "no passage was seen: nothing was detected and tracked for long enough"
        return
    yield f"{matched} of {len(passages)} passages continue an earlier one" + ("; the others:" if counts else "")
    for reason, count in counts.most_common():
        yield f"{count:6}  {reason}"


def _in_time(
    link: LinkSettings, passage: Seen, left: dict[str, list[Seen]], exits: dict[str, list[float]]
) -> Iterable[Seen]:
    times = exits.get(link.from_camera, [])
    first = bisect_left(times, passage.entry_time_s - link.transit.max_s)
    last = bisect_right(times, passage.entry_time_s - link.transit.min_s)
    return left.get(link.from_camera, [])[first:last]


def _no_embedding(passage: Seen, minimum_side_px: float) -> str:
    if passage.side_px < minimum_side_px:
        return f"it is never {minimum_side_px:g} px wide and high (crops.minimum_side_px)"
    return "every view was hidden, cut off or blurred (crops.minimum_quality)"
