"""The anchor set: what is in it, who is the best on it, and that three small steps away from it are one too many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")

from picture_town import DAY_S, hours_of, model_file, network, street, town

from trainer.adapt import rounds
from trainer.adapt.commands import command
from trainer.adapt.crops.choice import Known
from trainer.adapt.gate.verdict import GateSettings
from trainer.adapt.hearing import anchor
from trainer.adapt.hearing.anchor import Anchor
from trainer.adapt.stages import adapt as stages
from trainer.errors import DataError

HOUR_S = 3600.0
FEW = GateSettings(anchor_passages=70, anchor_days=7)  # ten a day


def known(hours: dict[int, int]) -> Known:
    """So many passages in each hour, two crops each."""
    entered = np.array([hour * HOUR_S + n for hour, count in hours.items() for n in range(count)]).repeat(2)
    numbers, none = np.arange(len(entered)), np.zeros(len(entered), np.bool_)
    return Known(numbers, numbers // 2, numbers, entered, entered, entered + 1, control=none, reservoir=none)


def test_a_day_gives_whole_hours_until_it_has_given_its_share():
    crops = known({1: 6, 2: 6, 3: 6, 25: 3, 26: 30, 50: 4})
    found = anchor.grow(crops, [1, 2, 3, 25, 26, 50], (), FEW, HOUR_S)
    assert found.hours == (1, 2, 25, 26, 50)  # 12 of day 0; 25 alone was not enough; all there is of day 2
    assert (found.passages, found.crops, found.came, found.went) == (49, 98, 5, 0)
    assert found.days == pytest.approx(50 / 24)
    assert "49 passages of 5 hours over 2.1 days; 5 hours came, 0 went" in found.sentence
    assert anchor.rows_in(crops, (3,), HOUR_S).tolist() == list(range(24, 36))


def test_times_of_day_that_the_set_lacks_come_first():
    crops = known({1: 20, 25: 20, 28: 20, 49: 20, 52: 20})
    assert anchor.grow(crops, [1, 25, 28, 49, 52], (1,), FEW, HOUR_S).hours == (1, 28, 49)


def test_what_is_in_stays_and_what_is_gone_is_counted():
    """Hour 3 was chosen when nothing else was there; hour 30 has lost its crops; hour 4 is held out no longer."""
    crops = known({1: 20, 3: 2, 4: 20})
    found = anchor.grow(crops, [1, 3], (3, 4, 30), FEW, HOUR_S)
    assert (found.hours, found.came, found.went) == ((1, 3), 1, 2)
    assert anchor.rows_in(crops, (1,), 4 * HOUR_S).tolist() == list(range(44, 84)), "hours of another length"
    assert anchor.grow(known({}), [], (3,), FEW, HOUR_S).sentence.startswith("the anchor set has 0 passages of 0 hours")


def units(old: float, new: float) -> dict[str, Any]:
    return {"judge": {"anchor_units": [{"comparisons": 3, "old": old, "new": new}] * 2}}


@pytest.mark.parametrize(
    ("done", "accepted", "best", "value"),
    [
        (units(0.9, 0.92), True, 5, 0.92),
        (units(0.9, 0.895), True, 2, 0.9),  # within what drift allows, and not the best
        (units(0.9, 0.95), False, 2, 0.9),
        ({"judge": {}}, True, 5, None),  # too small a set: the newest accepted one
        ({}, False, 2, 0.8),
    ],
)
def test_the_best_accepted_model_is_remembered(tmp_path, done, accepted, best, value):
    before = Anchor((7,), 2, 0.8)
    found = anchor.after(before, done, 5, accepted=accepted)
    assert (found.hours, found.best) == ((7,), best)
    assert (value if value is None else pytest.approx(value)) == found.H
    assert anchor.after(found, done, 5, accepted=accepted) == found
    anchor.save(tmp_path, found)
    assert anchor.read(tmp_path) == found


def test_a_file_that_is_none_and_a_model_that_is_gone(tmp_path):
    assert anchor.read(tmp_path) == Anchor()
    assert anchor.best_model(tmp_path, tmp_path / "start", Anchor()) == tmp_path / "start"
    with pytest.raises(DataError, match="put it back"):
        anchor.best_model(tmp_path, tmp_path / "start", Anchor((), 3))
    for content, said in (("[]", "cannot be read"), ('{"hours": [], "format": "x/2"}', "found x/2")):
        (tmp_path / anchor.FILE).write_text(content)
        with pytest.raises(DataError, match=said):
            anchor.read(tmp_path)


DAY = 19_602
LOWER = (0.5, 0.9, 1.3, 1.8)  # how every next model weighs the half that only the last day shows
LOSS = 0.12  # the bound: more than each step, less than two of them


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", [3, pytest.param(1, marks=pytest.mark.long)])
def test_drift_over_three_rounds_is_refused(tmp_path, monkeypatch, first):
    """Each model is better than the one before on the days of the window, and a little worse on last week's. The third
    step is no larger than the second, but the best accepted model is the first. What training makes is known
    beforehand; crops, stages and gate are real. In short, the first two rounds were yesterday."""
    bounds = {"anchor_passages": 350, "anchor_days": 4, "drift_loss": LOSS}
    site, settings = town(tmp_path, LOWER[0], gate=bounds, keep={"window_days": 1})
    for day in range(DAY, DAY + 5):
        site.upload(street(day, hours_of(day, 0.3)[0][0], 12, "upper"))
    held, free = hours_of(DAY + 6, 0.3)
    site.upload(street(1, held[0], 25, "lower") + street(2, held[1], 25, "lower") + street(3, free[0], 3, "lower"))
    for number in range(1, first):
        planted(tmp_path, number, settings.folder / rounds.model_name(number))
        rounds.put_in_force(settings.folder, number)
        anchor.save(settings.folder, Anchor(best=1))

    def train(work: stages.Work) -> dict[str, Any]:
        planted(tmp_path, work.round.number, work.model)
        return {}

    monkeypatch.setitem(stages.STAGES, "train", train)
    ended, now_s = [], DAY_S * (DAY + 7)
    with command.opened(settings) as here:
        command.take_in(here, now_s, print)
        for number in range(first, 4):
            ended.append(stages.adapt(settings, here.index, number, now_s, say=print))
    assert [one.decision for one in ended] == ["accepted", "accepted", "kept"][first - 1 :]
    drifts = [one.done["judge"]["measures"][-1]["value"] for one in ended]
    assert ended[-1].done["judge"]["reasons"] == ("drift",)
    assert drifts[-1] < -LOSS
    if first == 1:
        assert drifts[1] > -LOSS
        assert drifts[2] - drifts[1] > -LOSS  # against its predecessor it would have passed
    assert anchor.read(settings.folder).best == 1
    assert anchor.read(settings.folder).hours == tuple(ended[-1].done["choose"]["anchor"]["hours"])
    assert rounds.current_round(settings.folder) == 2
    assert "H on the anchor set" in ended[-1].reason


def planted(root: Path, number: int, model: Path) -> None:
    """What the training of a round makes."""
    model_file(network(root / "next.onnx", LOWER[number]), model)
