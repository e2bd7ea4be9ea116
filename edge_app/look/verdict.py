"""What stands out of what was seen, in plain words with counts, and what to do about it; the worst first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from edge_app.look.record import CameraRecord
from edge_app.types import PERSON

Grade = Literal["lost", "doubt", "good"]

FEW = 5  # of anything, and nothing is said of its shares
LOW_PX = 24  # height at the network's input below which vehicles are seldom found
SHORT_SHARE = 0.2  # of the tracks
UNSURE_SHARE = 0.4  # of the boxes
UNSEEN_SHARE = 0.1  # of the passages
OUTSIDE_SHARE = 0.4  # of the boxes
PIECES_SHARE = 0.25  # of the passages
UNDER_PERSON = 0.3  # of a two-wheeler's pictures
OTHER_SHARE = 0.2  # boxes of a class that nobody asked for, as a share of those that are kept
ROAD_USERS = ("car", "truck", "bus", "motorcycle", "bicycle", "train", "van")

_LIMITS = {
    "weak": "the detector is not sure enough of them (a larger input or model; crops.minimum_quality)",
    "small": "they are too small (a longer lens, a larger stream; crops.good_side_px, crops.minimum_side_px)",
    "hidden": "they are hidden behind others (a higher camera)",
    "cut off": "the frame cuts them off (turn the camera, or give it an area)",
    "blurred": "they are blurred, or no frame came at the right moment (a shorter exposure)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence. `lost`: passages are missing for it; `doubt`: some may be; `good`: what is as it should be."""

    grade: Grade
    text: str


def findings(one: CameraRecord, input_px: tuple[int, int] | None, shortest_s: float) -> list[Finding]:
    """Of one camera. `input_px`: width and height of the detector's input, where that is known."""
    if not one.frames:
        return [Finding("lost", "no frame came")]
    if not one.kept and not one.weak:
        return [Finding("lost", f"nothing was detected in {one.frames} frames: is anything to be seen?")]
    found = [*chain(_riders(one), _size(one, input_px), _boxes(one), _tracks(one, shortest_s), _crops(one))]
    if one.endings["passage"]:
        found.append(Finding("good", f"{one.endings['passage']:,} passages: {_listed(one.passages)}"))
    order: dict[Grade, int] = {"lost": 0, "doubt": 1, "good": 2}
    return sorted(found, key=lambda each: order[each.grade])


def _riders(one: CameraRecord) -> Iterator[Finding]:
    """Two-wheelers and persons."""
    frames = sum(one.ridden.values())
    under = one.ridden[PERSON] / frames if frames else 0.0
    two_wheelers = sum(n for name, n in one.passages.items() if name in ("motorcycle", "bicycle"))
    if frames and under >= UNDER_PERSON:
        alone = f", {one.by_motion} of them in all, and are known by how they move" if one.by_motion else ""
        yield Finding(
            "doubt",
            f"{under:.0%} of the pictures of your motorcycles ({two_wheelers}) lie under a `person` box{alone}: the "
            "detector finds the rider and not the machine",
        )
    if one.lost_riders:
        yield Finding(
            "lost",
            f"motorcycles lost to `person`: {one.lost_riders}. They move as vehicles do, but came before enough "
            "vehicles were known to tell; a longer look, or a node that runs on, counts them",
        )
    left = one.endings["unasked"] - one.lost_riders
    if left >= FEW:
        text = (
            f"{left} persons were followed and not counted: on no two-wheeler that was seen, and slower than vehicles"
        )
        yield Finding("doubt" if frames else "good", text)
    if one.other[PERSON] and not one.kept[PERSON]:
        yield Finding(
            "doubt",
            f"{one.other[PERSON]} boxes are persons and no two-wheeler is asked for: riders among them are not counted "
            "(detector.classes)",
        )


def _size(one: CameraRecord, input_px: tuple[int, int] | None) -> Iterator[Finding]:
    if len(one.heights_px) < FEW or input_px is None:
        return
    scale = min(input_px[0] / one.size_px[0], input_px[1] / one.size_px[1])
    middle = float(np.median(one.heights_px)) * scale
    if middle < LOW_PX:
        yield Finding(
            "lost",
            f"at {input_px[0]} px your vehicles are {middle:.0f} px high, below {LOW_PX} a detector misses most: take "
            "a model with a larger input, or an area nearer to the camera",
        )


def _boxes(one: CameraRecord) -> Iterator[Finding]:
    kept, weak = sum(one.kept.values()), sum(one.weak.values())
    unsure = sum(one.unsure.values()) + weak
    if kept + weak >= FEW and unsure / (kept + weak) >= UNSURE_SHARE:
        yield Finding(
            "doubt",
            f"{unsure / (kept + weak):.0%} of {kept + weak} boxes are too weak to begin a track, {weak} of them are "
            "not even followed (track.new_track_score, detector.score_threshold; or a larger model)",
        )
    asked = {name: n for name, n in one.other.items() if name in ROAD_USERS and n >= max(OTHER_SHARE * kept, FEW)}
    if asked:
        yield Finding("doubt", f"not asked for, and often there: {_listed(Counter(asked))} (detector.classes)")
    if kept and one.outside / (kept + one.outside) >= OUTSIDE_SHARE:
        yield Finding("doubt", f"{one.outside / (kept + one.outside):.0%} of the boxes stand outside the area (area)")


def _tracks(one: CameraRecord, shortest_s: float) -> Iterator[Finding]:
    short, passages = one.endings["short"], one.endings["passage"]
    if short + passages >= FEW and short / (short + passages) >= SHORT_SHARE:
        yield Finding(
            "lost",
            f"of {short + passages} tracks {short} were shorter than {shortest_s:g} s, or seen too seldom "
            "(tracklets.minimum_observations; more frames per second)",
        )
    if passages >= FEW and one.pieces / passages >= PIECES_SHARE:
        yield Finding("good", f"{one.pieces} tracks were pieces of {passages} passages and are joined to them")


def _crops(one: CameraRecord) -> Iterator[Finding]:
    passages, unseen = one.endings["passage"], sum(one.unseen.values())
    if passages >= FEW and unseen / passages >= UNSEEN_SHARE:
        reason, count = one.unseen.most_common(1)[0]
        yield Finding(
            "lost",
            f"{unseen} of {passages} passages have no view that can be compared, so they can be matched with nobody; "
            f"{count} of them because {_LIMITS[reason]}",
        )


def link_findings(link: str, best: Sequence[float], others: Sequence[float]) -> list[Finding]:
    """Of the similarities over one link: do those who may be the same stand out?"""
    if len(best) < FEW or len(others) < FEW:
        return []
    over = float(np.mean(np.array(best) > np.percentile(others, 95)))
    text = (
        f"{link}: of {len(best)} passages the best candidate is {np.median(best):.2f} alike in the middle, the others "
        f"{np.median(others):.2f}; {over:.0%} stand out of them"
    )
    return [Finding("doubt" if over < 0.5 else "good", text)]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.most_common())
