"""The whole chain on a real clip: frames → detect → track → select → embed → tracklets; repeatable and resumable."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge_app.contract.preprocess import InputSpec
from edge_app.perception.crops import CropSelector, CropSettings
from edge_app.perception.detect import DetectorSettings, open_detector
from edge_app.perception.embed import EmbedderSettings, open_embedder
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.perception.tracklets import TrackletBuilder, TrackletSettings
from edge_app.types import Detector, Embedder, Frame, Tracklet

STEP = 3  # of 25 frames a second
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


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


@pytest.fixture(scope="module")
def ticks(shared_data: Path) -> list[list[Frame]]:
    """Twelve seconds of two cameras."""
    import av

    cameras = []
    for name in ("terrace1-c0", "terrace1-c1"):
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


@dataclass
class Perception:
    """The wiring of one node, as the pipeline does it."""

    detector: Detector
    embedder: Embedder
    boot: str = "1"
    selector: CropSelector = field(default_factory=lambda: CropSelector(CropSettings()))

    def __post_init__(self) -> None:
        cameras = {name: TrackSettings(frame_rate_hz=25 / STEP) for name in ("terrace1-c0", "terrace1-c1")}
        self.trackers = TrackerBank("n1", self.boot, cameras, self.detector.class_names)
        self.builder = TrackletBuilder("n1", self.detector.class_names, {}, TrackletSettings())
        self.builder.use_embedder(self.embedder.version, self.embedder.dimension)

    def tick(self, frames: list[Frame]) -> list[Tracklet]:
        views, ended = [], []
        for frame, detections in zip(frames, self.detector.detect(frames), strict=True):
            tracks = self.trackers.update(frame.camera, frame.time_s, detections)
            self.builder.observe(frame, tracks)
            views += self.selector.select(frame, tracks)
            ended += tracks.ended
        self.builder.add_views(views, self.embedder.embed(views))
        return self.builder.close(ended)

    def snapshot(self) -> list[bytes]:
        return [part.snapshot() for part in (self.trackers, self.selector, self.builder)]

    def restore(self, snapshots: list[bytes]) -> None:
        for part, snapshot in zip((self.trackers, self.selector, self.builder), snapshots, strict=True):
            part.restore(snapshot)


def run(node: Perception, ticks: list[list[Frame]]) -> list[Tracklet]:
    return [tracklet for frames in ticks for tracklet in node.tick(frames)]


def test_people_become_tracklets_and_a_restart_changes_nothing(detector, embedder, ticks) -> None:
    node = Perception(detector, embedder)
    closed = run(node, ticks[:40])
    resumed = Perception(detector, embedder)
    resumed.restore(node.snapshot())
    first = closed + run(node, ticks[40:]) + node.builder.flush()
    second = closed + run(resumed, ticks[40:]) + resumed.builder.flush()
    assert 4 <= len(first) <= 20
    assert all(tracklet.class_name == "person" for tracklet in first)
    assert sum(len(tracklet.embeddings) > 0 for tracklet in first) >= 0.7 * len(first)
    for one, other in zip(first, second, strict=True):
        for name in Tracklet.__slots__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=f"{one.id} {name}")


def test_looks_at_one_track_resemble_each_other(detector, embedder, ticks) -> None:
    node = Perception(detector, embedder)
    tracklets = [each for each in run(node, ticks) + node.builder.flush() if len(each.embeddings) >= 3]
    within = [float((each.embeddings @ each.embeddings.T)[~np.eye(len(each.embeddings), dtype=bool)].mean())
              for each in tracklets]  # fmt: skip
    between = [float((one.embeddings @ other.embeddings.T).mean()) for one in tracklets for other in tracklets
               if one.camera == other.camera and one.id < other.id]  # fmt: skip
    assert np.mean(within) > np.mean(between) + 0.1
