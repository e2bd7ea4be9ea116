"""Which looks are taken: tables of tiny worlds without pixels, and pictures for sharpness."""

import cv2
import numpy as np
import pytest

from edge_app.errors import StoreError
from edge_app.perception.crops import CropSelector, CropSettings, covered, cut, geometric_quality, sharpness
from edge_app.types import Frame, Tracks, View

EPOCH_S = 1_790_000_000.0
INSIDE = (300.0, 200.0, 380.0, 280.0)


def tracks(time_s: float, *boxes: tuple[float, ...], ended: tuple[str, ...] = ()) -> Tracks:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    ids = tuple(f"n/a/1/{k + 1}" for k in range(len(rows)))
    return Tracks("a", time_s, ids, rows, np.full(len(rows), 0.9, np.float32), np.zeros(len(rows), np.int64), ended)


def frame(time_s: float, image: np.ndarray | None = None) -> Frame:
    return Frame("a", time_s, image, 800, 600)


def look(selector: CropSelector, time_s: float, *boxes: tuple[float, ...]) -> list[View]:
    return selector.select(frame(EPOCH_S + time_s), tracks(EPOCH_S + time_s, *boxes))


def moved(steps: float) -> tuple[float, ...]:
    return (300.0 + 20 * steps, 200.0, 380.0 + 20 * steps, 280.0)


def quality(*boxes: tuple[float, ...]) -> np.ndarray:
    return geometric_quality(tracks(0.0, *boxes), 800, 600, CropSettings())


def test_quality_tells_good_from_bad() -> None:
    good = quality(INSIDE)[0]
    assert good == pytest.approx(0.9)
    assert quality((0.0, 200, 80, 280))[0] == pytest.approx(0.9 * 0.4)  # at the border
    assert quality((300, 200, 332, 280))[0] == pytest.approx(0.9 * 0.5)  # half the good size
    assert quality((300, 200, 310, 280))[0] == 0  # too small
    behind, front = quality(INSIDE, (340, 220, 420, 300))
    assert behind == pytest.approx(0.9 * (1 - 40 * 60 / 6400))
    assert front == pytest.approx(0.9 * (1 - 40 * 60 / 6400 / 3))


def test_covered_is_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 100, (12, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 60, (12, 2))], axis=1)
    for i, found in enumerate(covered(boxes)):
        worst = 0.0
        for j, other in enumerate(boxes):
            size = np.maximum(np.minimum(boxes[i, 2:], other[2:]) - np.maximum(boxes[i, :2], other[:2]), 0)
            share = size.prod() / (boxes[i, 2:] - boxes[i, :2]).prod()
            worst = max(worst, 0.0 if i == j else share * (1 if other[3] > boxes[i, 3] else 1 / 3))
        assert found == pytest.approx(min(worst, 1.0))


def test_looks_become_rarer_and_stay_few() -> None:
    selector = CropSelector(CropSettings(maximum_views=1000))
    times = [k / 10 for k in range(1200) if look(selector, k / 10, moved(k))]
    assert times[:4] == pytest.approx([0.0, 0.4, 0.8, 1.2])
    gaps = np.diff(times)
    assert (gaps >= 0.4 - 1e-6).all()
    assert gaps[-1] > 10  # in two minutes of view, the last interval is a fifth of the age
    assert len(times) < 30


def test_never_more_than_the_maximum() -> None:
    selector = CropSelector(CropSettings(maximum_views=3))
    assert sum(len(look(selector, k / 10, moved(k))) for k in range(300)) == 3


def test_a_standing_object_is_looked_at_once() -> None:
    selector = CropSelector(CropSettings())
    assert sum(len(look(selector, k / 10, INSIDE)) for k in range(100)) == 1


def test_a_clearly_better_look_is_taken_early_but_not_with_every_frame() -> None:
    selector = CropSelector(CropSettings())
    growing = [(300.0, 200.0, 300 + side, 200 + side) for side in (20, 22, 30, 40, 60)]
    taken = [k for k, box in enumerate(growing) if look(selector, k / 10, box)]
    assert taken == [0, 2, 4]


def test_poor_looks_are_never_taken() -> None:
    selector = CropSelector(CropSettings())
    assert look(selector, 0.0, (300, 200, 310, 280)) == []
    assert look(selector, 0.1) == []
    open_gate = CropSelector(CropSettings(minimum_quality=0))
    assert look(open_gate, 0.0, (300, 200, 310, 280)) == []
    empty = np.zeros((600, 800, 3), np.uint8)
    assert open_gate.select(frame(0.5, empty), tracks(0.5, (850.0, 200.0, 930.0, 280.0))) == []


def test_views_carry_copies_of_their_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    view = CropSelector(CropSettings()).select(frame(0.5, image), tracks(0.5, (300.4, 199.6, 380.2, 280.0)))[0]
    assert view.crop.shape == (81, 81, 3)
    np.testing.assert_array_equal(view.crop, image[199:280, 300:381])
    assert not np.shares_memory(view.crop, image)
    assert (view.track, view.camera, view.time_s) == ("n/a/1/1", "a", 0.5)
    assert look(CropSelector(CropSettings()), 0.5, INSIDE)[0].crop is None


def test_cut_survives_boxes_outside() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    assert cut(image, np.array([-5, -5, 10, 10], np.float32)).shape == (10, 10, 3)
    assert cut(image, np.array([90, 10, 99, 20], np.float32)).size == 0


def test_blur_costs_quality_but_not_everything() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    image = cv2.resize(image[:40, :40], (120, 120), interpolation=cv2.INTER_NEAREST)
    scores = [sharpness(cv2.GaussianBlur(image, (0, 0), sigma)) for sigma in (0.5, 2, 4, 8)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert scores[-1] < 0.5
    assert sharpness(np.full((20, 20, 3), 99, np.uint8)) == pytest.approx(0.3)


def test_ended_tracks_are_forgotten() -> None:
    selector = CropSelector(CropSettings())
    look(selector, 0.0, INSIDE)
    assert b"n/a/1/1" in selector.snapshot()
    selector.select(frame(EPOCH_S + 1), tracks(EPOCH_S + 1, ended=("n/a/1/1",)))
    assert b"n/a/1/1" not in selector.snapshot()


def test_going_on_from_a_snapshot_is_going_on() -> None:
    rng = np.random.default_rng(1)
    worlds = [[tuple(row) for row in rng.uniform(0, 400, (4, 2)) @ np.eye(2, 4) + [0, 0, 470, 470]] for _ in range(90)]
    one, other = CropSelector(CropSettings()), CropSelector(CropSettings())
    for k, boxes in enumerate(worlds):
        if k == 45:
            other.restore(one.snapshot())
        found = [(view.track, view.quality) for view in look(one, k / 10, *boxes)]
        if k >= 45:
            assert found == [(view.track, view.quality) for view in look(other, k / 10, *boxes)]


@pytest.mark.parametrize(
    "damaged", [b"", b"[]", b'{"format": "x"}', b'{"format": "crosslane.looks/1", "open": {"a": 3}}']
)
def test_a_damaged_snapshot_is_refused(damaged: bytes) -> None:
    with pytest.raises(StoreError, match="looks are unusable"):
        CropSelector(CropSettings()).restore(damaged)
