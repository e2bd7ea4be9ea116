"""Tiny worlds through the real perception, and what a look says of them."""

import numpy as np
import pytest

from edge_app.associate.settings import LinkSettings
from edge_app.look.look import Look, Subject, attach
from edge_app.look.record import candidates, strangers
from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector, CropSettings
from edge_app.perception.finished import TrackletSettings
from edge_app.perception.perception import Perception
from edge_app.perception.riders import Asked
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.store.parts import Parts
from edge_app.types import Aside, Detections, Floats, Frame, Tracklet, View

NAMES = ("person", "car", "motorcycle", "bus")
PERSON, CAR, MOTORCYCLE, BUS = range(4)
TWO_WHEELERS = ("motorcycle", "bicycle")
WIDTH, HEIGHT = 800, 400


class Table:
    """A `Detector` of what a table says: class, box and score of each frame; weak and unasked ones stand aside."""

    class_names = NAMES
    keeps_aside = False

    def __init__(self, frames, kept=(PERSON, CAR, MOTORCYCLE), least=0.1) -> None:
        self._frames, self._kept, self._least = frames, kept, least

    def detect(self, frames: list[Frame]) -> list[Detections]:
        return [self._of(self._frames[frame.sequence]) for frame in frames]

    def _of(self, seen) -> Detections:
        boxes = np.array([box for _, box, _ in seen], np.float32).reshape(-1, 4)
        scores = np.array([score for *_, score in seen], np.float32)
        classes = np.array([index for index, *_ in seen], np.int64)
        asked = np.isin(classes, self._kept)
        kept = asked & (scores >= self._least)
        why = tuple("weak" if one else "class" for one in asked[~kept])
        aside = Aside(boxes[~kept], scores[~kept], classes[~kept], why) if self.keeps_aside else None
        return Detections(boxes[kept], scores[kept], classes[kept], {}, aside)


class Grey:
    """An `Embedder` for which all are alike."""

    version, dimension = "v1", 3

    def embed(self, views: list[View]) -> Floats:
        return np.tile(np.array([1, 0, 0], np.float32), (len(views), 1))


def looked(frames, classes=("car", "motorcycle"), input_px=None, close=True, **detector) -> Look:
    """One camera, ten frames a second, looked at to the end."""
    track, crops, asked = TrackSettings(), CropSettings(), Asked(frozenset(classes), TWO_WHEELERS)
    builder = TrackletBuilder("n1", NAMES, {}, TrackletSettings(), asked)
    bank = TrackerBank("n1", "1", {"gate": track}, NAMES)
    node = Perception(Table(frames, **detector), bank, CropSelector(crops), Grey(), builder, Meter(), {})
    node.restore(Parts())
    subject = Subject("road", ("gate",), (), {}, {}, NAMES, TWO_WHEELERS, track.new_track_score, 0.3, crops, input_px)
    look = Look(subject, pictures=True)
    attach(node, look)
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for k in range(len(frames)):
        _, tracklets = node.see(1.79e9 + k / 10, [Frame("gate", 1.79e9 + k / 10, picture, WIDTH, HEIGHT, k)])
        look.add(tracklets)
    if close:
        look.add(node.end())
    return look


def one_by_one(*classes: int, score: float = 0.8, height: float = 60, frames: int = 40):
    """They drive through the picture from left to right, one after the other."""
    found = []
    for index in classes:
        found += [[(index, (20 + 16.0 * k, 100, 110 + 16.0 * k, 100 + height), score)] for k in range(frames)]
        found += [[]] * 15
    return found


def said(look: Look) -> str:
    return "\n".join(look.told())


def test_nothing_stands_out_where_all_is_well() -> None:
    assert look_lines(one_by_one(*[CAR] * 6)) == ["· 6 passages: car 6"]


def look_lines(frames, **more) -> list[str]:
    return [line.strip() for line in looked(frames, **more).told()[1:]]


def test_motorcycles_under_a_person_are_named_with_their_count() -> None:
    """Six cars, then riders of whom only the person is found."""
    text = said(looked(one_by_one(*[CAR] * 6, *[PERSON] * 5)))
    assert "100% of the pictures of your motorcycles (5) lie under a `person` box, 5 of them in all" in text
    text = said(looked(one_by_one(*[PERSON] * 7, *[CAR] * 6)))
    assert "! motorcycles lost to `person`: 7. They move as vehicles do, but came before enough vehicles" in text
    half = one_by_one(*[CAR] * 6)
    for _ in range(4):
        half += [[(PERSON if k % 2 else MOTORCYCLE, (20 + 16.0 * k, 100, 110 + 16.0 * k, 160), 0.8)] for k in range(40)]
        half += [[]] * 15
    assert "of the pictures of your motorcycles (4) lie under a `person` box: the detector finds" in said(looked(half))


def test_persons_where_no_two_wheeler_is_asked_for() -> None:
    text = said(looked(one_by_one(CAR, PERSON), classes=("car",), kept=(CAR,)))
    assert "40 boxes are persons and no two-wheeler is asked for" in text


def test_walkers_are_said_and_not_lamented() -> None:
    walkers = one_by_one(*[CAR] * 6)
    walkers += [
        [(PERSON, (100.0 * n + 1.5 * k, 300, 100.0 * n + 1.5 * k + 25, 370), 0.8) for n in range(6)] for k in range(60)
    ]
    (line,) = [line for line in look_lines(walkers) if "persons" in line]
    assert line.startswith("· 6 persons were followed and not counted")


@pytest.mark.parametrize(
    ("frames", "more", "expected"),
    [
        ([[]] * 5, {}, "! nothing was detected in 5 frames"),
        (one_by_one(*[CAR] * 6, frames=3), {}, "! of 6 tracks 6 were shorter than 0.3 s"),
        (one_by_one(*[CAR] * 6, score=0.2), {}, "! 100% of 240 boxes are too weak to begin a track, 0 of them"),
        (one_by_one(*[CAR] * 6, score=0.07), {}, "! 100% of 240 boxes are too weak to begin a track, 240 of them"),
        (one_by_one(CAR, *[BUS] * 3), {}, "! not asked for, and often there: bus 120"),
        (one_by_one(*[CAR] * 6), {"input_px": (160, 160)}, "! at 160 px your vehicles are 12 px high"),
        (one_by_one(*[CAR] * 6, height=10), {}, "! 6 of 6 passages have no view that can be compared"),
    ],
)
def test_what_is_lost_is_said_with_its_count(frames, more, expected: str) -> None:
    text = [line for line in look_lines(frames, **more) if line.startswith(expected)]
    assert text, look_lines(frames, **more)


def test_why_there_is_no_view() -> None:
    small = said(looked(one_by_one(*[CAR] * 6, height=10)))
    assert "6 of them because they are too small" in small
    pairs = [
        [*row, (CAR, (row[0][1][0], 100, row[0][1][2], 172), 0.9)] if row else [] for row in one_by_one(*[CAR] * 6)
    ]
    hidden = looked([[(index, (b[0], b[1], b[2], b[3] - 3), s) for index, b, s in row] for row in pairs])
    assert "passages" in said(hidden)


def test_no_camera_no_frames() -> None:
    assert looked([]).told() == ["camera gate, 0 frames, 0 passages:", "  ! no frame came"]


def passage(name: str, entry_s: float, exit_s: float, angle: float, camera: str = "a") -> Tracklet:
    row = np.array([[np.cos(angle), np.sin(angle)]], np.float32)
    return Tracklet(
        name, "n", camera, "car", entry_s, exit_s, 0.1, "left", "right", 0.0, row, np.ones(1, np.float32), "v1",
        np.zeros(0), np.zeros((0, 4), np.float32),
    )  # fmt: skip


def test_strangers_are_two_at_once_and_candidates_are_in_time() -> None:
    ones = [passage("1", 0, 5, 0.0), passage("2", 4, 8, np.pi / 2), passage("3", 9, 12, 0.0)]
    np.testing.assert_allclose(strangers(ones), [0.0], atol=1e-6)
    link = LinkSettings.model_validate(
        {"from_camera": "a", "to_camera": "b", "transit": {"min_s": 5, "typical_s": 10, "max_s": 20}}
    )
    after = [passage("4", 20, 25, 0.0, "b"), passage("5", 200, 205, 0.0, "b")]
    best, others = candidates(ones, after, link)
    np.testing.assert_allclose(best, [1.0], atol=1e-6)
    np.testing.assert_allclose(sorted(others), [0.0, 1.0][: len(others)], atol=1e-6)


def test_pieces_are_counted_and_what_is_open_is_none() -> None:
    """Each of two cars is boxed twice, whole and in part; a third is still there when the look ends."""

    def twice(k: int) -> list:
        x = 20 + 16.0 * k
        return [(CAR, (x, 100, x + 90, 160), 0.8), (CAR, (x + 10, 112, x + 60, 161), 0.7)]

    frames = ([twice(k) for k in range(40)] + [[]] * 15) * 2
    look = looked(frames + one_by_one(CAR)[:20], close=False)
    (record,) = look._record.cameras.values()
    assert (record.endings["passage"], record.pieces) == (2, 2)
    assert len(record.tracks) == 1, "of what has ended nothing is kept"
