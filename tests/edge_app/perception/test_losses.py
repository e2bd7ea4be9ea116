"""One bad output is left out and counted; a network that gives hardly anything else is given up."""

import numpy as np
import pytest

from edge_app.errors import ModelError
from edge_app.perception.losses import EMPTY_BOXES, REFUSED_BOXES, REFUSED_VIEWS, SAY_EVERY_S, WINDOW, Losses
from edge_app.types import Detections

GOOD, BAD = np.eye(1, 3, dtype=np.float32), np.full((1, 3), np.nan, np.float32)


def found(count: int, **lost: int) -> Detections:
    return Detections(np.ones((count, 4), np.float32), np.ones(count, np.float32), np.zeros(count, np.int64), lost)


def test_views_are_judged_one_by_one() -> None:
    losses = Losses()
    assert losses.judge_views(np.concatenate([GOOD, BAD, GOOD])) == [True, False, True]
    assert losses.take() == {REFUSED_VIEWS: 1}
    assert losses.take() == {}
    assert losses.judge_views(np.zeros((0, 3), np.float32)) == []
    assert losses.total == {REFUSED_VIEWS: 1}


@pytest.mark.parametrize(("bad", "given_up"), [(0.94, False), (0.96, True), (1.0, True)])
def test_an_embedder_is_given_up_when_nearly_all_of_some_hundred_are_bad(bad, given_up) -> None:
    losses, verdicts = Losses(), np.random.default_rng(0).random(WINDOW * 2) < 0
    verdicts[np.arange(len(verdicts)) % 100 < round(bad * 100)] = True
    rows = np.where(verdicts[:, None], BAD, GOOD)
    losses.judge_views(rows[: WINDOW - 1])  # too few to tell
    if given_up:
        with pytest.raises(ModelError, match="the embedder gave useless numbers"):
            losses.judge_views(rows[WINDOW - 1 :])
    else:
        losses.judge_views(rows[WINDOW - 1 :])


def test_a_detector_is_judged_by_frames_that_hold_something() -> None:
    losses = Losses()
    for _ in range(3 * WINDOW):
        losses.judge_frame(found(1, **{REFUSED_BOXES: 8400}))  # one good box is a good frame
        losses.judge_frame(found(0))  # an empty street says nothing
        losses.judge_frame(found(0, **{EMPTY_BOXES: 3}))  # said, but no reason to stop
    for _ in range(WINDOW * 94 // 100):
        losses.judge_frame(found(0, **{REFUSED_BOXES: 1}))
    with pytest.raises(ModelError, match="the detector gave useless numbers"):
        one_by_one(losses, WINDOW)


def one_by_one(losses: Losses, frames: int) -> None:
    for _ in range(frames):
        losses.judge_frame(found(0, **{REFUSED_BOXES: 1}))


def test_it_is_said_now_and_then(caplog) -> None:
    now = [0.0]
    losses = Losses(lambda: now[0])
    for _ in range(100):
        losses.judge_views(np.concatenate([BAD, GOOD]))
    assert [record.getMessage() for record in caplog.records] == [
        "left out, 1 so far: views whose embedding is zero or not finite"
    ]
    now[0] = SAY_EVERY_S
    losses.judge_views(BAD)
    assert caplog.records[-1].getMessage().startswith("left out, 101 so far")
