"""The label-free gate: each bound by itself, and in short what tests/benchmarks/gate.py shows: ten adversaries, each
refused by name, and a truly better model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_world import WAYS, Court, adversaries, controls_of, matrix, noisy, scene
from worn_models import shipped

from edge_app.associate.decoys import Estimate
from edge_app.contract.similarity import Certain
from trainer.adapt.gate.controls import Control, Way, periods
from trainer.adapt.gate.gate import decide, judge
from trainer.adapt.gate.lift import Comparison, Comparisons
from trainer.adapt.gate.verdict import Figures, GateSettings, Measure, Verdict, drifted
from trainer.errors import DataError

EXITS, HOURS = 400, 10
COMPARED = Comparisons(tuple(Comparison(n, n % HOURS, (n,), (n,)) for n in range(EXITS)), nobody=7, no_placebo=5)
NO_DRIFT = Measure("drift", "not judged", None, None, None, "drift is not judged yet")


def measured(won: float = 0.8, target: int = 500, decoy: int = 5, **changes: object) -> Figures:
    """Figures of a model that wins this share of the comparisons, spread evenly over the hours."""
    wins = (np.arange(EXITS) // HOURS < won * EXITS / HOURS).astype(float)
    rng = np.random.default_rng(0)
    pairs = Certain(0.9 + 0.02 * rng.normal(size=300), 0.4 + 0.1 * rng.normal(size=200))
    return replace(Figures(wins, pairs, counted(target, decoy), 20.0, 0.1), **changes)


def counted(target: int, decoy: int, passages: int = 900) -> Estimate:
    return Estimate((("a", "b"),) * target, decoy, passages, passages, 900 - passages)


def decided(new: Figures, old: Figures | None = None, **settings: object) -> Verdict:
    return decide(COMPARED, old or measured(), new, GateSettings(**settings), 0, drift=NO_DRIFT)


BETTER = measured(0.9, 520)


def test_a_better_model_is_published():
    verdict = decided(BETTER)
    assert (verdict.decision, verdict.reasons) == ("publish", ())
    assert {one.outcome for one in verdict.measures} == {"passed", "not judged"}
    assert verdict.notes == ("drift is not judged yet",)  # said, since nothing else says it
    lift = verdict.measures[0]
    assert lift.value == pytest.approx(0.1)
    assert lift.interval is not None
    assert 0 < lift.interval[0] <= 0.1 <= lift.interval[1]
    assert "from 0.800 to 0.900 over 400 exits in 10 units" in lift.sentence


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"wins": measured(0.8).wins}, "placebo lift"),
        ({"decoys": counted(520, 11)}, "wrong matches"),
        ({"decoys": counted(0, 1)}, "wrong matches"),
        ({"decoys": counted(0, 0)}, "right matches"),
        ({"decoys": counted(499, 5)}, "right matches"),
        ({"pairs": Certain(BETTER.pairs.genuine - 0.4, BETTER.pairs.impostor)}, "certain impostors"),
        ({"rank": 13.9}, "effective rank"),
        ({"pairs": Certain(BETTER.pairs.genuine, BETTER.pairs.impostor + 0.03)}, "impostor similarity"),
        ({"camera_share": 0.101}, "camera share"),
    ],
)
def test_each_bound_refuses_by_name(changes, name):
    verdict = decided(replace(BETTER, **changes))
    assert verdict.decision == "refuse"
    assert name in verdict.reasons
    (one,) = (one for one in verdict.measures if one.name == name)
    assert one.outcome == "refused"


def test_on_the_bound_is_allowed():
    edge = replace(BETTER, decoys=counted(505, 10), rank=14.0, camera_share=0.1)
    assert decided(edge).decision == "publish"


def test_the_camera_share_may_rise_where_a_site_allows_it():
    risen = replace(BETTER, camera_share=0.11)
    assert decided(risen).reasons == ("camera share",)
    verdict = decided(risen, camera_rise=0.01)
    assert verdict.decision == "publish"
    assert "camera_rise 0.01 instead of 0.0" in verdict.notes
    assert decided(replace(risen, camera_share=0.111), camera_rise=0.01, purpose="refresh").reasons == ("camera share",)


def test_equals_pass_as_a_refresh_not_as_an_adaptation():
    """INT8 loses one match and a hair of everything; as an adaptation even the old model itself is refused."""
    assert decided(measured()).reasons == ("placebo lift",)
    int8 = measured(0.8, 499, camera_share=0.102)
    assert decided(int8, purpose="refresh").decision == "publish"
    assert set(decided(int8).reasons) == {"placebo lift", "right matches", "camera share"}
    assert decided(measured(0.75), purpose="refresh").reasons == ("placebo lift",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"minimum_exits": 401}, "400 exits"), ({"minimum_units": 11}, "in 10 units")],
)
def test_too_little_is_neither_published_nor_refused(settings, said):
    for new in (BETTER, replace(BETTER, rank=1.0)):
        verdict = decided(new, **settings)
        assert (verdict.decision, verdict.reasons) == ("not judged", ("placebo lift",))
        assert said in verdict.measures[0].sentence
        assert "7 exits had nobody in the link's time, 5 too few beside it" in verdict.measures[0].sentence


def test_other_settings_are_said():
    verdict = decided(BETTER, minimum_exits=100)
    assert "minimum_exits 100 instead of 300" in verdict.notes


def test_what_cannot_be_measured_is_not_published():
    alone = Certain(np.ones(5), np.zeros(0))
    verdict = decided(replace(BETTER, pairs=alone), measured(pairs=alone))
    assert (verdict.decision, verdict.reasons) == ("not judged", ("certain impostors", "impostor similarity"))
    nothing = replace(BETTER, decoys=counted(0, 0, passages=0))
    verdict = decided(nothing)
    assert (verdict.decision, verdict.reasons) == ("not judged", ("wrong matches", "right matches"))
    assert any("900 passages lie in hours too short" in note for note in verdict.notes)
    assert decided(replace(nothing, rank=1.0)).decision == "refuse"  # what is measured still counts


def test_of_no_match_and_no_decoy_no_share_is_wrong():
    """What that is worth, T − K says: less than a model in force that matches, as much as one that does not."""
    silent = replace(BETTER, decoys=counted(0, 0))
    verdict = decided(silent)
    assert (verdict.decision, verdict.reasons) == ("refuse", ("right matches",))
    (wrong,) = (one for one in verdict.measures if one.name == "wrong matches")
    assert (wrong.outcome, wrong.value, wrong.interval) == ("not judged", None, None)
    assert "no match among 900 passages and none among decoys" in wrong.sentence
    verdict = decided(silent, measured(target=0, decoy=0))
    assert (verdict.decision, verdict.reasons) == ("not judged", ("wrong matches",))


def test_drift_refuses():
    best, units = np.repeat([1.0, 0.0], [900, 100]), np.arange(1000) % 10
    worse = np.repeat([1.0, 0.0], [885, 115])
    drift = drifted(best, worse, units, GateSettings(), 0)
    assert (drift.outcome, drift.value) == ("refused", pytest.approx(-0.015))
    assert drifted(best, np.repeat([1.0, 0.0], [891, 109]), units, GateSettings(), 0).outcome == "passed"
    verdict = decide(COMPARED, measured(), BETTER, GateSettings(), 0, drift=drift)
    assert (verdict.decision, verdict.reasons) == ("refuse", ("drift",))


ROWS = np.eye(4, dtype=np.float32)[:2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"old": ROWS[:1]}, "old has shape"),
        ({"new": 2 * ROWS}, "not of unit length"),
        ({"new": np.full((2, 4), np.nan, np.float32)}, "not of unit length"),
        ({"entered_at_s": 9.0}, "leaves before it enters"),
    ],
)
def test_controls_that_are_none(changes, said):
    fields = {"entered_at_s": 1.0, "left_at_s": 2.0, "times_s": np.arange(2.0), "old": ROWS, "new": ROWS}
    with pytest.raises(DataError, match=said):
        Control("x", "a", "car", **fields | changes)
    with pytest.raises(DataError, match="min_s < max_s"):
        Way("a", "b", 5.0, 5.0)


def test_periods_are_runs_of_hours():
    controls = [Control("x", "a", "car", t, t, np.zeros(0), ROWS[:0], ROWS[:0]) for t in (10.0, 3700.0, 10_900.0)]
    assert periods(controls, 3600.0) == [(0.0, 7200.0), (10_800.0, 14_400.0)]
    assert periods([], 3600.0) == []


# Half an hour stands for an hour here, and few exits for 300: the verdicts say so.
SMALL = GateSettings(minimum_exits=40, unit_s=1800.0)
SEED = 104


@pytest.fixture(scope="module")
def town():
    return scene(SEED, per_hour=45.0, hours=5)


@pytest.fixture(scope="module")
def court(town):
    return Court(town.judged, matrix(town.generic)(town.judged), SMALL)


@pytest.fixture(scope="module")
def impostors(town):
    return adversaries(town, SEED)


def test_a_truly_better_model_passes(town, court):
    case = court.judge(matrix(town.adapted)(town.judged))
    assert case.verdict.decision == "publish", case.verdict
    assert any("minimum_exits 40 instead of 300" in note for note in case.verdict.notes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("constant", "effective rank"),
        ("class only", "certain impostors"),
        ("camera code", "camera share"),
        ("hour-of-day code", "certain impostors"),
        ("colour only", "placebo lift"),
        ("shuffled labels", "placebo lift"),
        ("another site's model", "placebo lift"),
        ("the old model renamed", "placebo lift"),
    ],
)
def test_adversaries_are_refused_by_name(court, impostors, name, reason):
    verdict = court.judge(impostors[name]).verdict
    assert verdict.decision == "refuse"
    assert reason in verdict.reasons


def test_noise_is_refused_before_it_does_harm(town, court):
    case = court.judge(noisy(matrix(town.adapted)(town.judged), 2.0, SEED))
    assert {"placebo lift", "certain impostors"} <= set(case.verdict.reasons)


def test_wrong_must_links_are_refused_where_the_model_in_force_is_good(town, impostors):
    later = Court(town.judged, matrix(town.adapted)(town.judged), SMALL)
    assert "placebo lift" in later.judge(impostors["20 % wrong must-links"]).verdict.reasons


def test_int8_passes_as_a_refresh_and_a_bad_int8_does_not(town):
    refresh = SMALL.model_copy(update={"purpose": "refresh"})
    before = Court(town.judged, matrix(town.adapted)(town.judged), refresh)
    good, *bad = (before.judge(rows).verdict for rows in shipped(town).values())
    assert good.decision == "publish", good
    assert len(bad) == 2
    for verdict in bad:
        assert verdict.decision == "refuse"
        assert "placebo lift" in verdict.reasons


def test_the_whole_gate_with_an_anchor_set(town):
    """The same rows twice: no lift, and no drift either on an anchor set that is large enough."""
    rows = matrix(town.generic)(town.judged)
    controls = controls_of(town.judged, rows, rows)[:150]
    few = SMALL.model_copy(update={"minimum_exits": 2, "minimum_units": 2, "anchor_passages": 100, "anchor_days": 0.01})
    verdict = judge(controls, WAYS, few, 0, anchor=controls)
    assert verdict.reasons[0] == "placebo lift"
    assert verdict.measures[-1].outcome == "passed"
    assert verdict == judge(controls, WAYS, few, 0, anchor=controls)
    unanchored = judge(controls, WAYS, SMALL, 0)
    assert unanchored.decision == "not judged"
    assert any("anchor set has 0 passages" in note for note in unanchored.notes)
