"""The real `Perception`: on fakes behind the Protocols for what networks can get wrong, and on a real clip with real
models; repeatable and resumable."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec
from edge_app.errors import ModelError
from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector, CropSettings
from edge_app.perception.detect import DetectorSettings, open_detector
from edge_app.perception.embed import EmbedderSettings, open_embedder
from edge_app.perception.finished import TrackletSettings
from edge_app.perception.losses import REFUSED_BOXES, REFUSED_VIEWS, WINDOW
from edge_app.perception.perception import Perception
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.store.parts import Parts
from edge_app.types import Detections, Detector, Embedder, Floats, Frame, Tracklet, View

STEP = 3  # of 25 frames a second
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def perception(detector: Detector, embedder: Embedder, cameras: tuple[str, ...], hz: float, areas=None) -> Perception:
    settings = dict.fromkeys(cameras, TrackSettings(frame_rate_hz=hz))
    node = Perception(
        detector,
        TrackerBank("n1", "1", settings, detector.class_names),
        CropSelector(CropSettings(minimum_interval_s=0.1, moved_iou=1.0, growth=0.0, maximum_views=10_000)),
        embedder,
        TrackletBuilder("n1", detector.class_names, {}, TrackletSettings()),
        Meter(),
        areas or {},
    )
    node.restore(Parts())
    return node


@dataclass
class OneCar:
    """A `Detector` that sees one car per frame, driving right; `lost` in frames whose number is in `bad`."""

    class_names: tuple[str, ...] = ("car",)
    bad: frozenset[int] = frozenset()

    def detect(self, frames: list[Frame]) -> list[Detections]:
        return [self._found(frame) for frame in frames]

    def _found(self, frame: Frame) -> Detections:
        if frame.sequence in self.bad:
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64),
                              {REFUSED_BOXES: 7})  # fmt: skip
        left = 10 + 2 * (frame.sequence % 50)
        return Detections(np.array([[left, 20, left + 60, 70]], np.float32), np.ones(1, np.float32), np.zeros(1, int))


@dataclass
class Colours:
    """An `Embedder` that makes nothing of dark crops, as a network in 16 bits may."""

    version: str = "v1"
    dimension: int = 3
    seen: list[int] = field(default_factory=list)

    def embed(self, views: list[View]) -> Floats:
        self.seen.append(len(views))
        rows = np.array([view.crop.reshape(-1, 3).mean(axis=0) for view in views], np.float32).reshape(-1, 3)
        dark = rows.max(axis=1, initial=0) < 60
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        rows[dark] = np.nan
        return rows


def frame(index: int, grey: int = 200) -> Frame:
    noise = np.random.default_rng(index).integers(0, 30, (96, 320, 3))
    return Frame("gate", 1.79e9 + index / 10, (noise + grey).astype(np.uint8), 320, 96, index)


def drive(node: Perception, frames: list[Frame]) -> tuple[list[View], list[Tracklet]]:
    views, tracklets = [], []
    for each in frames:
        seen, ended = node.see(each.time_s, [each])
        views += seen
        tracklets += ended
    return views, tracklets + node.end()


def test_a_dark_crop_is_left_out_and_counted_and_its_neighbours_stay() -> None:
    node = perception(OneCar(), Colours(), ("gate",), 10)
    views, (tracklet,) = drive(node, [frame(index, 0 if index % 4 == 0 else 200) for index in range(40)])
    refused = node.losses.take()
    assert refused[REFUSED_VIEWS] >= 5
    assert len(views) >= 15
    assert all(view.crop.mean() > 60 for view in views), "what is called embedded was embedded"
    assert len(tracklet.embeddings) == 8
    np.testing.assert_allclose(np.linalg.norm(tracklet.embeddings, axis=1), 1, rtol=1e-5)


def test_a_car_of_which_no_view_can_be_used_is_a_tracklet_without_looks() -> None:
    node = perception(OneCar(), Colours(), ("gate",), 10)
    views, (tracklet,) = drive(node, [frame(index, 0) for index in range(40)])
    assert views == []
    assert tracklet.embeddings.shape == (0, 3)


def test_an_embedder_that_gives_hardly_anything_else_ends_it() -> None:
    node = perception(OneCar(), Colours(), ("gate",), 10)
    with pytest.raises(ModelError, match="the embedder gave useless numbers 300 times of the last 300"):
        drive(node, [frame(index, 0) for index in range(20 * WINDOW)])


def test_a_frame_whose_boxes_are_no_numbers_is_counted_and_the_track_goes_on() -> None:
    node = perception(OneCar(bad=frozenset({7, 8})), Colours(), ("gate",), 10)
    _, tracklets = drive(node, [frame(index) for index in range(40)])
    assert len(tracklets) == 1
    assert node.losses.take()[REFUSED_BOXES] == 14


def test_a_detector_that_gives_nothing_else_ends_it() -> None:
    node = perception(OneCar(bad=frozenset(range(10 * WINDOW))), Colours(), ("gate",), 10)
    with pytest.raises(ModelError, match="the detector gave useless numbers"):
        drive(node, [frame(index) for index in range(2 * WINDOW)])


@dataclass
class WithPersons(OneCar):
    """Somebody stands in front of the car, and somebody far away; both are hardly seen, and never tracked."""

    class_names: tuple[str, ...] = ("car", "person")

    def _found(self, frame: Frame) -> Detections:
        car = super()._found(frame)
        near, far = np.add(car.boxes[0], [20, 10, -20, 0]), np.array([300, 0, 310, 20])
        boxes = np.array([*car.boxes, near, far], np.float32)
        return Detections(boxes, np.array([0.9, 0.11, 0.11], np.float32), np.array([0, 1, 1]))


def test_a_view_says_who_stands_in_it_and_how_it_was_embedded() -> None:
    area = (
        (0.0, 0.8),
        (1.0, 0.8),
        (1.0, 1.0),
        (0.0, 1.0),
    )  # no car stands in it
    for areas in (None, {"gate": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))}, {"gate": area}):
        node = perception(WithPersons(), Colours(), ("gate",), 10, areas)
        views, _ = drive(node, [frame(index) for index in range(40)])
        assert bool(views) == (areas != {"gate": area})
        for view in views:
            assert [one.tolist() for one in view.persons] == [np.add(view.box, [20, 10, -20, 0]).tolist()]
            assert view.score == pytest.approx(0.9)
            assert view.embedding_version == "v1"
            np.testing.assert_allclose(np.linalg.norm(view.embedding), 1, rtol=1e-5)
    alone, _ = drive(perception(OneCar(), Colours(), ("gate",), 10), [frame(index) for index in range(40)])
    assert all(view.persons.shape == (0, 4) for view in alone)


def test_no_frames_ask_no_network() -> None:
    detector, embedder = OneCar(), Colours()
    node = perception(detector, embedder, ("gate",), 10)
    assert node.see(1.79e9, []) == ([], [])
    assert embedder.seen == [0]


def test_only_what_stands_in_the_area_is_seen() -> None:
    far = {"gate": ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))}
    node = perception(OneCar(), Colours(), ("gate",), 10, far)
    assert drive(node, [frame(index) for index in range(40)]) == ([], [])


def test_a_snapshot_that_cannot_be_read_gives_what_is_open_back() -> None:
    node = perception(OneCar(), Colours(), ("gate",), 10)
    for index in range(20):
        node.see(frame(index).time_s, [frame(index)])
    parts = {key: value for key, value in node.snapshot().items() if value is not None}
    fresh = perception(OneCar(), Colours(), ("gate",), 10)
    stored = Parts(parts | {"perception/tracks": b"damaged"})
    (tracklet,) = fresh.restore(stored)
    assert tracklet.camera == "gate"
    assert list(stored.unreadable) == ["perception/tracks"]


@pytest.fixture(scope="module")
def detector(shared_data: Path) -> Detector:
    spec = InputSpec(
        width_px=416, height_px=416, channel_order="BGR", scale=1, resize="letterbox", letterbox_align="top-left"
    )
    path = shared_data / "weights" / "yolox_nano.onnx"
    return open_detector(DetectorSettings(path=path, input=spec, classes=("person",)))


@pytest.fixture(scope="module")
def embedder(shared_data: Path) -> Embedder:
    path = shared_data / "weights" / "osnet_x0_25_msmt17.onnx"
    return open_embedder(EmbedderSettings(path=path, input=InputSpec(width_px=128, height_px=256, **IMAGENET)))


CLIPS = ("terrace1-c0", "terrace1-c1")


@pytest.fixture(scope="module")
def ticks(shared_data: Path) -> list[list[Frame]]:
    """Twelve seconds of two cameras."""
    import av

    cameras = []
    for name in CLIPS:
        with av.open(str(shared_data / "videos" / f"{name}.mp4")) as clip:
            frames = []
            for index, picture in enumerate(clip.decode(video=0)):
                if index >= 800:
                    break
                if index >= 500 and index % STEP == 0:
                    image = picture.to_ndarray(format="bgr24")
                    frames.append(Frame(name, 1.79e9 + index / 25, image, picture.width, picture.height, index))
        cameras.append(frames)
    return [list(pair) for pair in zip(*cameras, strict=True)]


def run(node: Perception, ticks: list[list[Frame]]) -> list[Tracklet]:
    return [tracklet for frames in ticks for tracklet in node.see(frames[0].time_s, frames)[1]]


def of_clips(detector: Detector, embedder: Embedder) -> Perception:
    node = perception(detector, embedder, CLIPS, 25 / STEP)
    node.selector = CropSelector(CropSettings())
    return node


def test_people_become_tracklets_and_a_restart_changes_nothing(detector, embedder, ticks) -> None:
    node = of_clips(detector, embedder)
    closed = run(node, ticks[:40])
    resumed = of_clips(detector, embedder)
    assert resumed.restore(Parts({key: value for key, value in node.snapshot().items() if value is not None})) == []
    first = closed + run(node, ticks[40:]) + node.end()
    second = closed + run(resumed, ticks[40:]) + resumed.end()
    assert 4 <= len(first) <= 20
    assert all(tracklet.class_name == "person" for tracklet in first)
    assert sum(len(tracklet.embeddings) > 0 for tracklet in first) >= 0.6 * len(first)
    assert node.losses.total == {}
    for one, other in zip(first, second, strict=True):
        for name in Tracklet.__slots__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=f"{one.id} {name}")


def test_looks_at_one_track_resemble_each_other(detector, embedder, ticks) -> None:
    node = of_clips(detector, embedder)
    tracklets = [each for each in run(node, ticks) + node.end() if len(each.embeddings) >= 3]
    within = [float((each.embeddings @ each.embeddings.T)[~np.eye(len(each.embeddings), dtype=bool)].mean())
              for each in tracklets]  # fmt: skip
    between = [float((one.embeddings @ other.embeddings.T).mean()) for one in tracklets for other in tracklets
               if one.camera == other.camera and one.id < other.id]  # fmt: skip
    assert np.mean(within) > np.mean(between) + 0.1
