"""The gate's bounds: figures of two models in, an outcome for each measure out. What is measured and why: `gate.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_app.associate.decoys import Estimate
from edge_app.contract.similarity import Certain
from trainer.adapt.gate import features
from trainer.adapt.gate.lift import Comparisons, interval
from trainer.settings import Settings

Outcome = Literal["passed", "refused", "not judged"]
Decision = Literal["publish", "refuse", "not judged"]
Purpose = Literal["adaptation", "refresh"]
ROUNDING = 1e-9


class GateSettings(Settings):
    """When a model is better. What differs from the defaults is said with every verdict."""

    purpose: Purpose = "adaptation"
    """`refresh`: INT8, or the same training again. It may be a little worse, an adaptation must be better."""
    minimum_exits: int = Field(default=300, ge=2)
    """Exits that can be compared; fewer judge nothing."""
    unit_s: float = Field(default=3600.0, gt=0)
    """What is drawn as a whole when the lift's interval is resampled."""
    minimum_units: int = Field(default=6, ge=2)
    """Units that the exits come from; an interval over fewer means nothing."""
    lift_loss: float = Field(default=0.005, ge=0)
    """Of a refresh: how far its H may be below the old one's."""
    decoy_share: float = Field(default=0.02, gt=0)
    """Largest K / T."""
    refresh_loss: float = Field(default=0.005, ge=0)
    """Of a refresh: the share of T − K that it may lose, and the camera share that it may add."""
    auc_loss: float = Field(default=0.005, ge=0)
    """How far the AUC may be below the old one's."""
    rank_share: float = Field(default=0.7, gt=0, le=1)
    """Least effective rank, as a share of the old one's."""
    impostor_rise: float = Field(default=0.02, ge=0)
    """How far the p99 of impostors may rise above the old one's."""
    camera_rise: float = Field(default=0.0, ge=0)
    """How far the camera share may rise above the old one's; of a refresh `refresh_loss` where that is more."""
    anchor_passages: int = Field(default=1000, ge=1)
    """Passages of the anchor set; drift is not judged on fewer."""
    anchor_days: float = Field(default=7.0, gt=0)
    """Days that they span; a day gives whole hours until it has given its share of the passages."""
    drift_loss: float = Field(default=0.01, ge=0)
    """How far H on the anchor set may be below that of the best accepted model."""

    def differences(self) -> list[str]:
        """What is not as by default, `name value instead of default`."""
        return [
            f"{name} {getattr(self, name)} instead of {field.default}"
            for name, field in type(self).model_fields.items()
            if name != "purpose" and getattr(self, name) != field.default
        ]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of the new model beside its bound."""

    name: str
    outcome: Outcome
    value: float | None
    interval: tuple[float, float] | None  # 95 %, of the value; None where there is none
    bound: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Unit:
    """H of two models in one held-out hour, or what stands for it."""

    begin_s: float
    comparisons: int
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons`: names of the measures that decided, empty for `publish`. `notes`: what a reader must know besides."""

    decision: Decision
    reasons: tuple[str, ...]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]
    units: tuple[Unit, ...] = ()  # of the placebo lift
    anchor_units: tuple[Unit, ...] = ()  # of the anchor set, where it was judged; `old` is the best accepted model
    purpose: Purpose = "adaptation"  # what was asked


@dataclass(frozen=True, slots=True)
class Figures:
    """One model on the controls."""

    wins: NDArray[np.float64]  # (C,) of the placebo comparisons
    pairs: Certain
    decoys: Estimate
    rank: float
    camera_share: float


def lifted(compared: Comparisons, old: Figures, new: Figures, settings: GateSettings, seed: int) -> Measure:
    """Measure 1: who of both wins more of the same comparisons."""
    name, units = "placebo lift", len(np.unique(compared.units))
    bound = 0.0 if settings.purpose == "adaptation" else -settings.lift_loss
    if compared.exits < settings.minimum_exits or units < settings.minimum_units:
        said = (
            f"{compared.exits} exits in {units} units of {settings.unit_s:g} s can be compared, expected at least "
            f"{settings.minimum_exits} in {settings.minimum_units}; {compared.nobody} exits had nobody in the link's "
            f"time, {compared.no_placebo} too few beside it: wait for more controls"
        )
        return _not_judged(name, said)
    gained = new.wins - old.wins
    low, high = interval(gained, compared.units, np.random.default_rng(seed))
    better = low > bound + ROUNDING if settings.purpose == "adaptation" else low >= bound - ROUNDING
    said = (
        f"H goes from {old.wins.mean():.3f} to {new.wins.mean():.3f} over {compared.exits} exits in {units} units, by "
        f"{gained.mean():+.4f} [{low:+.4f}, {high:+.4f}]; the lower bound must be "
        f"{'above' if settings.purpose == 'adaptation' else 'at least'} {bound:g}"
    )
    return Measure(name, _passed(better), float(gained.mean()), (low, high), bound, said)


def matched(old: Estimate, new: Estimate, settings: GateSettings) -> tuple[Measure, Measure]:
    """Measure 2. Intervals take both counts for Poisson's."""
    wrong, kept = "wrong matches", "right matches"
    if not new.passages:
        said = "no run of held-out hours is long enough to move cameras against each other by twice the links' max_s"
        return _not_judged(wrong, said), _not_judged(kept, said)
    right, before = new.target - new.decoy, old.target - old.decoy
    loss = settings.refresh_loss if settings.purpose == "refresh" else 0.0
    least = before - loss * abs(before)
    half = 1.96 * float(np.sqrt(new.target + new.decoy))
    said = f"T − K is {right}, the old model's {before}; at least {least:g} is needed"
    spread = (right - half, right + half)
    return _wrong(wrong, new, settings), Measure(kept, _passed(right >= least), float(right), spread, least, said)


def _wrong(name: str, new: Estimate, settings: GateSettings) -> Measure:
    """Who confirms nothing, neither rightly nor wrongly, has no share of wrong matches: T − K tells what that is worth
    beside a model in force that does."""
    if not new.target and not new.decoy:
        said = f"no match among {new.passages} passages and none among decoys: of nothing no share is wrong"
        return _not_judged(name, said)
    share = new.decoy_share
    spread = 1.96 * float(np.sqrt(new.decoy * (1 + share))) / new.target if new.target else 0.0
    said = (
        f"{new.decoy} matches among decoys, {new.target} among {new.passages} passages: K/T is {share:.4f}, "
        f"at most {settings.decoy_share:g} is allowed; about {new.wrong_share:.1%} of them are wrong"
    )
    around = (max(0.0, share - spread), share + spread)
    return Measure(name, _passed(share <= settings.decoy_share), share, around, settings.decoy_share, said)


def told_apart(old: Certain, new: Certain, settings: GateSettings) -> Measure:
    """Measure 3."""
    name = "certain impostors"
    if not len(new.genuine) or not len(new.impostor):
        said = "no track has three crops, or no camera saw two such tracks at once: keep more crops a passage"
        return _not_judged(name, said)
    before, after = (features.auc(pairs.genuine, pairs.impostor) for pairs in (old, new))
    bound = before - settings.auc_loss
    said = f"AUC {after:.4f} against {len(new.impostor)} pairs in view at once, the old model's is {before:.4f}"
    interval = features.auc_interval(after, len(new.genuine), len(new.impostor))
    return Measure(name, _passed(after >= bound - ROUNDING), after, interval, bound, said)


def varied(old: Figures, new: Figures, settings: GateSettings) -> tuple[Measure, Measure, Measure]:
    """Measure 4."""
    least = settings.rank_share * old.rank
    rank = Measure(
        "effective rank",
        _passed(new.rank >= least - ROUNDING),
        new.rank,
        None,
        least,
        f"the features span {new.rank:.1f} directions, the old model's {old.rank:.1f}; {least:.1f} are needed",
    )
    refresh = settings.refresh_loss if settings.purpose == "refresh" else 0.0
    most = old.camera_share + max(settings.camera_rise, refresh)
    cameras = Measure(
        "camera share",
        _passed(new.camera_share <= most + ROUNDING),
        new.camera_share,
        None,
        most,
        f"{new.camera_share:.1%} of the variance lies between cameras, {old.camera_share:.1%} in the old model; "
        f"{most:.1%} are allowed",
    )
    if not len(new.pairs.impostor):
        said = "no camera saw two tracks of three crops at once"
        return rank, _not_judged("impostor similarity", said), cameras
    before, after = (float(np.percentile(one.pairs.impostor, 99)) for one in (old, new))
    bound = before + settings.impostor_rise
    alike = Measure(
        "impostor similarity",
        _passed(after <= bound + ROUNDING),
        after,
        None,
        bound,
        f"one in a hundred impostors is {after:.3f} alike or more, {before:.3f} in the old model",
    )
    return rank, alike, cameras


def drifted(
    best: NDArray[np.float64], new: NDArray[np.float64], units: NDArray[np.int64], settings: GateSettings, seed: int
) -> Measure:
    """Measure 5. `best`, `new`: (C,) wins on the anchor set, C ≥ 1, by the best accepted model and by the new one."""
    gained = float((new - best).mean())
    said = f"H on the anchor set is {new.mean():.3f}, the best accepted model's {best.mean():.3f}"
    spread = interval(new - best, units, np.random.default_rng(seed))
    passed = _passed(gained >= -settings.drift_loss - ROUNDING)
    return Measure("drift", passed, gained, spread, -settings.drift_loss, said)


def by_unit(
    old: NDArray[np.float64], new: NDArray[np.float64], compared: Comparisons, unit_s: float
) -> tuple[Unit, ...]:
    """(C,) wins of two models, hour by hour."""
    names, place, counts = np.unique(compared.units, return_inverse=True, return_counts=True)
    means = [np.bincount(place, wins, len(names)) / counts for wins in (old, new)]
    rows = zip(names.tolist(), counts.tolist(), *(one.tolist() for one in means), strict=True)
    return tuple(Unit(name * unit_s, count, before, after) for name, count, before, after in rows)


def _not_judged(name: str, said: str) -> Measure:
    return Measure(name, "not judged", None, None, None, said)


def _passed(holds: bool) -> Outcome:
    return "passed" if holds else "refused"
