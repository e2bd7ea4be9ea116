"""What a class says of a match: it is learned how a link's cameras name one vehicle, and nothing is impossible."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError
from tiny_world import link, look, rules, tracklet

from edge_app.associate import classes, online
from edge_app.associate.settings import AssociateSettings
from edge_app.associate.state import State

AB = link("a", "b", 10.0)
ANY, GROUPS = AssociateSettings(), AssociateSettings(class_groups=[["car", "truck"]])


@pytest.mark.parametrize(
    ("settings", "left", "right", "expected"),
    [
        (ANY, "car", "bus", True),
        (ANY, "car", "person", False),
        (ANY, "person", "person", True),
        (GROUPS, "car", "truck", True),
        (GROUPS, "car", "bus", False),
        (GROUPS, "bus", "bus", True),
    ],
)
def test_which_classes_a_detector_may_be_expected_to_confuse(settings, left, right, expected):
    assert classes.alike(settings, left, right) is expected
    prior = math.exp(classes.log_confusion(settings, {}, left, right))
    assert prior == pytest.approx(
        classes.CONSTANT if left == right else classes.CONFUSED if expected else classes.FLOOR
    )


def test_a_camera_that_always_errs_is_known_for_it_after_a_few_vehicles():
    learned = {}
    for _ in range(30):
        learned = classes.learn_confusion(learned, "truck", "bus", 1.0)
        learned = classes.learn_confusion(learned, "car", "car", 1.0)
    assert classes.log_confusion(ANY, learned, "truck", "bus") > math.log(0.7)
    assert classes.log_confusion(ANY, learned, "car", "bus") < math.log(0.02)
    assert classes.log_confusion(ANY, learned, "car", "person") == pytest.approx(math.log(classes.FLOOR))


def test_a_doubtful_match_teaches_little_and_old_ones_fade():
    learned = classes.learn_confusion({}, "truck", "bus", 0.1)
    assert learned == {"truck": {"bus": 0.1}}
    for _ in range(2000):
        learned = classes.learn_confusion(learned, "truck", "truck", 1.0)
    assert learned["truck"]["truck"] < 1 / (1 - classes.DECAY)


@pytest.mark.parametrize("there", ["truck", "bus", "person"])
def test_vehicles_that_are_called_something_else_at_the_next_camera_are_found(there):
    """Twenty vehicles of one kind, each alone on the road."""
    state, facts, where = State(), [], rules(AB)
    for index in range(20):
        begin_s = 200.0 * index
        pair = [
            tracklet(f"a{index}", "a", begin_s, begin_s + 5, look(index), "motorcycle"),
            tracklet(f"b{index}", "b", begin_s + 15, begin_s + 20, look(index), there),
        ]
        for now in range(int(begin_s) + 20, int(begin_s) + 200, 5):
            state, said = online.step(state, pair, float(now), {}, where)
            facts += said
            pair = []
    matched = [fact for fact in facts if getattr(fact, "state", "") == "confirmed"]
    assert len(matched) >= 17


def without_views(count: int, camera: str):
    return [tracklet(f"{camera}{index}x", camera, 20.0 + 3 * index, 22.0 + 3 * index, None) for index in range(count)]


@pytest.mark.parametrize("camera", ["a", "b"])
def test_passages_that_can_be_nobodys_partner_move_no_other_pair(camera):
    """Without a view nothing can be matched: neither its exits nor its entries are trials of anything."""
    odds = []
    for strangers in (0, 60):
        state, facts, where = State(), [], rules(AB, confirm_posterior=0.9999, prefer=0.999)
        cars = [tracklet("1", "a", 400, 405, look(1)), tracklet("2", "b", 415, 418, look(1))]
        arriving = sorted([*without_views(strangers, camera), *cars], key=lambda one: one.exit_time_s)
        for now in range(0, 600, 2):
            come = [one for one in arriving if now - 2 < one.exit_time_s <= now]
            state, said = online.step(state, come, float(now), {}, where)
            facts += said
        (found,) = {fact.posterior for fact in facts if getattr(fact, "state", "") == "provisional"}
        odds.append(math.log(found / (1 - found)))
    assert odds[0] == pytest.approx(odds[1], abs=0.1)


def test_what_an_error_costs_is_a_word_or_a_number():
    assert [AssociateSettings(prefer=word).accept_posterior for word in ("recall", "balance", "precision", 0.6)] == [
        0.35,
        0.5,
        0.85,
        0.6,
    ]
    assert AssociateSettings().prefer == "balance"
    for wrong in ("speed", 0, 1, 1.5, True):
        with pytest.raises(ValidationError):
            AssociateSettings(prefer=wrong)
    with pytest.raises(ValidationError, match="accept_posterior is now called prefer"):
        AssociateSettings(accept_posterior=0.9)
