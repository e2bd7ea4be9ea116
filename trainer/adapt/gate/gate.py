"""The gate without labels: is the new model better at this site than the one in force? Pure: values in, verdict out.

A constant embedding agrees with our own matches, is stable and passes golden crops, so none of those decides. It is
judged on control passages of whole held-out hours whose tracks never entered training, by five measures:

    1  placebo lift       lower 95 % bound of H_new − H_old > 0 for an adaptation, ≥ −0.005 for a refresh    (lift.py)
    2  target and decoy   K / T ≤ 0.02, and T − K not below the old model's               (edge_app.associate.decoys)
    3  certain impostors  AUC of "first and last third of a track" against "in view at once" ≥ old − 0.005
    4  collapse           effective rank ≥ 0.7 of the old; p99 of the certain impostors' similarity ≤ old + 0.02;
                          share of variance between camera means ≤ old                                  (features.py)
    5  drift              H on the anchor set not below the best accepted model's by more than 0.01  (hearing/anchor.py)

A measure that could not be taken is not judged. Fewer exits or hours than the minimum: the model is neither published
nor refused. Another of the first four not judged: it is not published, and refused if a measure that was taken refuses
it. So one that confirms nothing at all is refused by T − K where the model in force confirms something, and not judged
where that does not either. The anchor set grows with the site; until it is large enough drift alone may be not judged,
which is said.

Reading: for a refresh (INT8, the same model made anew) T − K and the camera share keep a tolerance too, or a coin would
decide between equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_app.associate import decoys
from edge_app.contract.similarity import certain
from trainer.adapt.gate import features
from trainer.adapt.gate.controls import Control, Model, Way, passage_means, periods, tracks_of
from trainer.adapt.gate.lift import Comparisons, comparisons, wins
from trainer.adapt.gate.verdict import (
    Decision,
    Figures,
    GateSettings,
    Measure,
    Unit,
    Verdict,
    by_unit,
    drifted,
    lifted,
    matched,
    told_apart,
    varied,
)

DAY_S = 86_400.0


def judge(
    controls: Sequence[Control],
    ways: Sequence[Way],
    settings: GateSettings,
    seed: int,
    anchor: Sequence[Control] = (),
) -> Verdict:
    """The verdict on the new model. `anchor`: controls of the frozen set, `old` there by the best accepted model.

    The same values and seed give the same verdict. Raises `DataError` (from `Control`, `Way`) on values that are none.
    """
    compared = comparisons(controls, ways, settings.unit_s)
    old, new = (figures(controls, ways, compared, model, settings) for model in ("old", "new"))
    drift, anchor_units = _drift(anchor, ways, settings, seed)
    return replace(decide(compared, old, new, settings, seed, drift=drift), anchor_units=anchor_units)


def figures(
    controls: Sequence[Control], ways: Sequence[Way], compared: Comparisons, model: Model, settings: GateSettings
) -> Figures:
    """All that is measured of one model alone."""
    tracks = tracks_of(controls, model)
    pairs = certain(tracks)
    seen = [control for control in controls if len(control.times_s)]
    means = passage_means(controls, model)
    visits = [
        decoys.Visit(one.id, one.camera, one.class_name, one.entered_at_s, one.left_at_s, getattr(one, model))
        for one in seen
    ]
    links = [decoys.link(way.from_camera, way.to_camera, way.min_s, way.max_s) for way in ways]
    return Figures(
        wins(compared, tracks),
        pairs,
        decoys.estimate_visits(visits, links, pairs, periods(seen, settings.unit_s)),
        features.effective_rank(means) if seen else 1.0,
        features.camera_share(means, [one.camera for one in seen]) if seen else 1.0,
    )


def decide(
    compared: Comparisons, old: Figures, new: Figures, settings: GateSettings, seed: int, *, drift: Measure
) -> Verdict:
    """Both models' figures against the bounds."""
    first_four = (
        lifted(compared, old, new, settings, seed),
        *matched(old.decoys, new.decoys, settings),
        told_apart(old.pairs, new.pairs, settings),
        *varied(old, new, settings),
    )
    measures = (*first_four, drift)
    refused = tuple(one.name for one in measures if one.outcome == "refused")
    unjudged = tuple(one.name for one in first_four if one.outcome == "not judged")
    notes = list(settings.differences())
    if drift.outcome == "not judged":
        notes.append(drift.sentence)
    if new.decoys.left_out:
        notes.append(f"{new.decoys.left_out} passages lie in hours too short for the links and had no decoys")
    units = by_unit(old.wins, new.wins, compared, settings.unit_s)
    if "placebo lift" in unjudged or (unjudged and not refused):
        return Verdict("not judged", unjudged, measures, tuple(notes), units, purpose=settings.purpose)
    decision: Decision = "refuse" if refused else "publish"
    return Verdict(decision, refused, measures, tuple(notes), units, purpose=settings.purpose)


def _drift(
    anchor: Sequence[Control], ways: Sequence[Way], settings: GateSettings, seed: int
) -> tuple[Measure, tuple[Unit, ...]]:
    times = [one.entered_at_s for one in anchor]
    days = (max(times) - min(times)) / DAY_S if times else 0.0
    compared = comparisons(anchor, ways, settings.unit_s)
    if len(anchor) < settings.anchor_passages or days < settings.anchor_days or not compared.found:
        said = (
            f"drift is not judged yet: the anchor set has {len(anchor)} passages over {days:.1f} days, expected "
            f"{settings.anchor_passages} over {settings.anchor_days:g}"
        )
        return Measure("drift", "not judged", None, None, None, said), ()
    best, new = (wins(compared, tracks_of(anchor, model)) for model in ("old", "new"))
    return drifted(best, new, compared.units, settings, seed), by_unit(best, new, compared, settings.unit_s)
