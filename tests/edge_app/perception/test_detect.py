"""The detector around tiny networks with known outputs, and around a real one on real clips."""

from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.errors import BundleError
from edge_app.contract.model import ModelManifest, write_manifest
from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.perception.detect import DetectorSettings, OnnxDetector, open_detector, parts
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings
from edge_app.types import Frame

ONE_THREAD = EngineSettings(threads=1)
SQUARE = InputSpec(width_px=64, height_px=64, resize="letterbox")
NAMES = ("person", "car", "truck")


def frame(width: int = 128, height: int = 64, camera: str = "c") -> Frame:
    return Frame(camera, 0.0, np.zeros((height, width, 3), np.uint8), width, height)


def end2end(*rows: tuple[float, ...]) -> np.ndarray:
    output = np.zeros((10, 6), np.float32)
    output[: len(rows)] = rows
    return output


def raw(*rows: tuple[float, ...]) -> np.ndarray:
    """(4 + 3, 84): rows of x1 y1 x2 y2 score class."""
    output = np.zeros((7, 84), np.float32)
    for column, (x1, y1, x2, y2, score, index) in enumerate(rows):
        output[:4, column] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        output[4 + int(index), column] = score
    return output


def detector(path: Path, **changes) -> OnnxDetector:
    settings = {"input": SQUARE, "class_names": NAMES, "engine": ONE_THREAD, **changes}
    return open_detector(DetectorSettings(path=path, **settings))


def test_boxes_come_back_in_pixels_of_each_frame(tiny_onnx) -> None:
    model = tiny_onnx.constant(end2end((10, 20, 30, 40, 0.9, 1)), (64, 64))
    # 128×64 → scale ½, 16 px of padding above; 64×128 → scale ½, 16 px of padding to the left
    wide, tall = detector(model).detect([frame(128, 64), frame(64, 128)])
    np.testing.assert_allclose(wide.boxes, [[20, 8, 60, 48]])
    np.testing.assert_allclose(tall.boxes, [[0, 40, 28, 80]])  # clipped at the left
    np.testing.assert_allclose(wide.scores, [0.9])
    assert wide.classes.tolist() == [1]


def test_more_frames_than_a_batch(tiny_onnx) -> None:
    model = tiny_onnx.constant(end2end((10, 20, 30, 40, 0.9, 1)), (64, 64))
    found = detector(model, max_batch=2).detect([frame()] * 5)
    assert [len(each) for each in found] == [1] * 5
    assert detector(model).detect([]) == []


def test_duplicates_go_and_the_strongest_comes_first(tiny_onnx) -> None:
    rows = [
        (10, 20, 30, 40, 0.5, 1),
        (10, 20, 30, 41, 0.8, 1),  # nearly the same box
        (40, 20, 60, 40, 0.9, 1),
        (11, 20, 30, 40, 0.7, 2),  # the same object as another class
        (20, 20, 40, 40, 0.6, 1),  # overlaps by a third
    ]
    found = detector(tiny_onnx.constant(raw(*rows), (64, 64))).detect([frame()])[0]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.6])
    both = detector(tiny_onnx.constant(raw(*rows), (64, 64)), duplicate_iou=1.0, part_share=1.0).detect([frame()])[0]
    np.testing.assert_allclose(both.scores, [0.9, 0.8, 0.7, 0.6])
    assert both.classes.tolist() == [1, 1, 2, 1]


def test_suppression_is_the_plain_loop(tiny_onnx) -> None:
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 40, (60, 2))
    rows = np.concatenate([low, low + rng.uniform(8, 24, (60, 2)), rng.random((60, 1)), rng.integers(0, 3, (60, 1))], 1)
    spec = InputSpec(width_px=64, height_px=64)
    model = tiny_onnx.constant(raw(*rows), (64, 64))
    found = detector(model, input=spec, iou_threshold=0.4, duplicate_iou=1.0, part_share=1.0).detect([frame(64, 64)])[0]
    kept: list[np.ndarray] = []
    for row in sorted(rows, key=lambda row: -row[4]):
        clipped = np.concatenate([np.clip(row[:4], 0, 64), row[4:]])
        if row[4] >= 0.1 and all(clipped[5] != other[5] or iou(clipped, other) <= 0.4 for other in kept):
            kept.append(clipped)
    np.testing.assert_allclose(found.boxes, np.array(kept)[:, :4], atol=1e-3)
    assert found.classes.tolist() == [int(row[5]) for row in kept]


def iou(first: np.ndarray, second: np.ndarray) -> float:
    size = np.minimum(first[2:4], second[2:4]) - np.maximum(first[:2], second[:2])
    shared = np.prod(np.maximum(size, 0))
    return shared / (np.prod(first[2:4] - first[:2]) + np.prod(second[2:4] - second[:2]) - shared)


def test_only_wanted_classes_and_sound_boxes_stay(tiny_onnx) -> None:
    rows = end2end(
        (10, 20, 30, 40, 0.9, 1),
        (10, 20, 30, 40, 0.9, 2),  # not wanted
        (10, 20, 30, 40, 0.9, 7),  # no such class
        (10, 20, 30, 40, 0.05, 1),  # too weak
        (np.nan, 20, 30, 40, 0.9, 1),
        (10, 20, np.inf, 40, 0.9, 1),
        (10, 20, 10.2, 40, 0.9, 1),  # half a pixel wide
        (10, 70, 30, 90, 0.9, 1),  # outside the frame
    )
    found = detector(tiny_onnx.constant(rows, (64, 64)), classes=("car",)).detect([frame()])[0]
    np.testing.assert_allclose(found.boxes, [[20, 8, 60, 48]])
    assert found.lost == {"boxes_refused": 2, "boxes_of_unknown_class": 1, "strong_boxes_without_size": 2}


def test_persons_are_found_whoever_is_asked_for_and_are_no_part_of_a_vehicle(tiny_onnx) -> None:
    inside = end2end((10, 20, 30, 40, 0.9, 0), (11, 21, 29, 39, 0.8, 1), (10, 20, 30, 40, 0.7, 2))
    found = detector(tiny_onnx.constant(inside, (64, 64)), classes=("car",)).detect([frame()])[0]
    assert found.classes.tolist() == [0, 1], "a person, and a car that lies in the person's box; no truck"


GOOD = (10, 20, 30, 40, 0.9, 1)
WILD = [np.nan, np.inf, -np.inf, 1e30, -1e30]


@pytest.mark.parametrize("value", WILD)
@pytest.mark.parametrize("column", range(6))
def test_numbers_that_cannot_be_cost_their_own_box_only(tiny_onnx, value, column) -> None:
    wild = [*GOOD[:4], 0.8, 1.0]
    wild[column] = value
    (found,) = detector(tiny_onnx.constant(end2end(GOOD, tuple(wild)), (64, 64))).detect([frame()])
    np.testing.assert_allclose(found.boxes[0], [20, 8, 60, 48])
    np.testing.assert_allclose(found.scores[0], 0.9, rtol=1e-6)
    assert np.isfinite(found.boxes).all()
    if not np.isfinite(value) and (column, value) != (4, -np.inf):  # a score of −∞ is a weak one
        assert sum(found.lost.values()) == 1


@pytest.mark.parametrize("value", WILD)
@pytest.mark.parametrize(("head", "shape"), [("ultralytics-raw", (7, 84)), ("yolox", (84, 8))])
def test_a_head_gone_wild_gives_no_boxes_and_no_warning(tiny_onnx, value, head, shape) -> None:
    model = detector(tiny_onnx.constant(np.full(shape, value), (64, 64)), head=head)
    (found,) = model.detect([frame()])
    assert len(found) == 0
    if value > 0 or np.isnan(value):
        assert found.lost["boxes_refused"] == 84


def test_a_detector_whose_boxes_are_fractions_is_noticed(tiny_onnx) -> None:
    """Boxes of 0 to 1 where pixels belong lie in the first pixel, however large the picture is."""
    rows = end2end((0.1, 0.2, 0.5, 0.6, 0.9, 1), (0.3, 0.2, 0.9, 0.6, 0.8, 0))
    (found,) = detector(tiny_onnx.constant(rows, (64, 64))).detect([frame(3840, 2160)])
    assert (len(found), found.lost["strong_boxes_without_size"]) == (0, 2)


def test_scores_beyond_one_are_logits_and_refused(tiny_onnx) -> None:
    rows = end2end((10, 20, 30, 40, 7.5, 1), (10, 20, 30, 40, 1.004, 1))
    (found,) = detector(tiny_onnx.constant(rows, (64, 64))).detect([frame()])
    assert found.scores.tolist() == [1.0]
    assert found.lost["boxes_refused"] == 1


def test_a_batch_that_no_memory_holds_is_one_clear_error(tiny_onnx) -> None:
    """824 GB."""
    model, large = tiny_onnx.constant(end2end(GOOD), (8192, 8192)), InputSpec(width_px=8192, height_px=8192)
    with pytest.raises(ModelError, match=r"no memory for batches of 1024; lower max_batch"):
        detector(model, input=large, max_batch=1024)


class Moody:
    """An engine that fails on a white picture, or makes something else of it."""

    def __init__(self, engine, output) -> None:
        self.name, self.inputs, self.outputs = "moody", engine.inputs, engine.outputs
        self.busy_s, self.runs, self.metadata = 0.0, 0, engine.metadata
        self._engine, self._output = engine, output

    def run(self, batch):
        if batch.max() > 0.9:
            if self._output is None:
                raise ModelError("the model failed on a batch")
            return [np.zeros((len(batch), *self._output), np.float32)]
        return self._engine.run(batch)

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize("output", [None, (7, 80), (3,)])
def test_a_picture_that_the_network_fails_on_leaves_the_others_alone(tiny_onnx, output) -> None:
    engine = Moody(open_engine(tiny_onnx.constant(raw(GOOD), (64, 64)), ONE_THREAD), output)
    model = OnnxDetector(engine, DetectorSettings(path=Path("m.onnx"), input=SQUARE, class_names=NAMES))
    white = Frame("c", 0.0, np.full((64, 128, 3), 255, np.uint8), 128, 64)
    found = model.detect([frame(), white, frame()])
    assert [len(each) for each in found] == [1, 0, 1]
    assert found[1].lost == {"boxes_refused": 1}


def test_at_most_so_many(tiny_onnx) -> None:
    rows = end2end(*[(5 * k, 20, 5 * k + 5, 40, 0.5 + k / 100, 1) for k in range(8)])
    found = detector(tiny_onnx.constant(rows, (64, 64)), max_detections=3).detect([frame()])[0]
    np.testing.assert_allclose(found.scores, [0.57, 0.56, 0.55])


def test_manifest_beside_the_model_is_enough(tiny_onnx) -> None:
    model = tiny_onnx.constant(end2end((10, 20, 30, 40, 0.9, 1)), (64, 64))
    write_manifest(model, ModelManifest(kind="detector", version="1", input=SQUARE, class_names=NAMES))
    found = open_detector(DetectorSettings(path=model))
    assert found.class_names == NAMES
    assert found.head == "ultralytics-end2end"
    assert len(found.detect([frame()])[0]) == 1
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BundleError, match="not the one its manifest describes"):
        open_detector(DetectorSettings(path=model))


def test_each_wrong_model_is_one_clear_error(tiny_onnx) -> None:
    model = tiny_onnx.constant(end2end((10, 20, 30, 40, 0.9, 1)), (64, 64))
    with pytest.raises(ModelError, match="describe its `input`"):
        detector(model, input=None)
    with pytest.raises(ModelError, match="needs `class_names`"):
        detector(model, class_names=None)
    with pytest.raises(ModelError, match="no class 'lorry'; the model knows person, car, truck"):
        detector(model, classes=("car", "lorry"))
    with pytest.raises(ModelError, match="correct width_px and height_px"):
        detector(model, input=InputSpec(width_px=96, height_px=64))
    with pytest.raises(ModelError, match="could be: none"):
        detector(tiny_onnx.mean_colour((64, 64)))
    with pytest.raises(ModelError, match="one output, this one has first"):
        detector(tiny_onnx.two_outputs((64, 64)))
    with pytest.raises(ModelError, match="without a picture"):
        detector(model).detect([Frame("c", 0.0, None, 64, 64)])
    write_manifest(model, ModelManifest(kind="embedder", version="1", input=SQUARE, dimension=6))
    with pytest.raises(ModelError, match="expected a detector, the manifest says embedder"):
        detector(model)


@pytest.fixture(scope="module")
def yolox(shared_data: Path) -> OnnxDetector:
    spec = InputSpec(
        width_px=416,
        height_px=416,
        channel_order="BGR",
        scale=1,
        resize="letterbox",
        letterbox_align="top-left",
    )
    path = shared_data / "weights" / "yolox_nano.onnx"
    return open_detector(DetectorSettings(path=path, input=spec, score_threshold=0.3, engine=ONE_THREAD))


def pictures(path: Path, wanted: tuple[int, ...]) -> list[Frame]:
    import av

    found = []
    with av.open(str(path)) as clip:
        for index, picture in enumerate(clip.decode(video=0)):
            if index in wanted:
                found.append(Frame("c", index / 25, picture.to_ndarray(format="bgr24"), picture.width, picture.height))
            if index >= max(wanted):
                break
    return found


@pytest.mark.parametrize(
    ("clip", "wanted", "name", "least", "most"),
    [
        ("traffic.mp4", (30, 120), "car", 10, 40),
        ("terrace1-c0.mp4", (600, 900), "person", 2, 9),
    ],
)
def test_yolox_sees_what_is_there(shared_data, yolox, clip, wanted, name, least, most) -> None:
    assert (yolox.head, len(yolox.class_names)) == ("yolox", 80)
    for found, picture in zip(yolox.detect(pictures(shared_data / "videos" / clip, wanted)), wanted, strict=True):
        count = int((found.classes == yolox.class_names.index(name)).sum())
        assert least <= count <= most, f"{clip} picture {picture}: {count} × {name}"


def test_yolox_box_is_around_the_person(shared_data, yolox) -> None:
    """Moving the picture moves the box by as much: letterbox and mapping back are exact on a real network."""
    image = pictures(shared_data / "videos" / "terrace1-c0.mp4", (600,))[0].image
    shifted = np.zeros((image.shape[0] + 64, image.shape[1] + 96, 3), np.uint8)
    shifted[64:, 96:] = image
    frames = [Frame("c", 0.0, each, each.shape[1], each.shape[0]) for each in (image, shifted)]
    plain, moved = yolox.detect(frames)
    strongest = plain.boxes[0] + np.array([96, 64, 96, 64])
    gap = np.abs(moved.boxes - strongest).max(axis=1).min()
    assert gap < 12, f"nearest box is {gap:.1f} px off"


def test_the_cab_of_a_truck_is_a_part_of_it_and_a_car_before_it_is_not() -> None:
    truck, cab, car = (0, 0, 100, 100), (0, 40, 60, 100), (70, 80, 100, 100)
    boxes = np.array([truck, cab, car], np.float32)
    alike = np.zeros(3, np.int64)
    assert parts(boxes, alike, 0.9).tolist() == [False, True, False]
    assert parts(boxes, np.array([0, 1, 0]), 0.9).tolist() == [False, False, False], (
        "a rider is no part of the motorcycle"
    )
    assert parts(boxes[::-1], alike, 0.9).tolist() == [False, False, False]  # the stronger is no part of the weaker
    assert parts(np.zeros((0, 4), np.float32), alike[:0], 0.9).tolist() == []
