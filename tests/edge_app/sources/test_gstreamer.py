"""The GStreamer source with software elements, in a child process whose Python has `gi` (often the system's only)."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_app.sources.gstreamer import pipeline_text
from edge_app.sources.settings import CameraSettings

REPOSITORY = Path(__file__).resolve().parents[3]
READER = Path(__file__).parent / "gstreamer_reader.py"
_IMPORTS = (
    "import gi, cv2, pydantic; gi.require_version('Gst', '1.0'); gi.require_version('GstApp', '1.0'); "
    "from gi.repository import Gst, GstApp; Gst.init(None); "
    "needed = ('videotestsrc', 'videoconvert', 'decodebin', 'qtdemux', 'h264parse', 'avdec_h264'); "
    "assert all(map(Gst.ElementFactory.find, needed))"
)

_INSTALL = (
    f"no GStreamer for Python {sys.version_info.major}.{sys.version_info.minor}: apt install python3-gi "
    "gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav"
)


def settings(source: str, **more) -> CameraSettings:
    return CameraSettings(id="gate", source=source, **more)


@pytest.fixture(scope="module")
def read():
    """`read(settings, count)` → what gstreamer_reader.py tells."""
    # the system's Python sees our libraries when it is of the same version as this one
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        command = [python, "-c", _IMPORTS]
        if python and subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip(_INSTALL)

    def run(camera: CameraSettings, count: int, how: str = "software") -> dict:
        command = [python, str(READER), camera.model_dump_json(), str(count), how]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_pipelines_for_the_jetson():
    square = "nvvidconv ! video/x-raw,format=BGRx ! videoscale ! video/x-raw,format=BGRx,pixel-aspect-ratio=1/1"
    decode = f"nvv4l2decoder ! {square} ! appsink name=frames max-buffers=1 drop=true"
    assert decode in pipeline_text(settings("rtsp://host/1"))
    csi = pipeline_text(settings("csi://1?width=1280&height=720&fps=60&flip=2"))
    assert csi.startswith(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=60/1 ! "
        f"nvvidconv flip-method=2 ! {square} ! appsink"
    )


def test_a_software_pipeline_gives_frames_and_ends(read):
    text = (
        "gst://videotestsrc num-buffers=20 pattern=red is-live=true ! video/x-raw,width=322,height=240,framerate=20/1"
    )
    said = read(settings(text), 100)
    assert (said["error"], said["ended"]) == (None, True)
    times = [frame[0] for frame in said["frames"]]
    assert 10 < len(times) <= 20
    assert all(later > earlier for earlier, later in pairwise(times))
    assert np.median(np.diff(times)) == pytest.approx(0.05, abs=0.02)
    assert {tuple(frame[1:]) for frame in said["frames"]} == {(322, 240, 0, 0, 255)}


def test_a_pipeline_that_ends_is_opened_again(read):
    """A sensor's pipeline that sends end-of-stream, as after a driver's hiccup; it was never opened again."""
    text = "gst://videotestsrc num-buffers=10 is-live=true ! video/x-raw,width=64,height=48,framerate=20/1"
    said = read(settings(text), 25, "live")
    assert said["frames"] == 25
    assert said["reconnects"] >= 2


def test_pictures_lie_the_right_way_up_and_their_pixels_are_square(read, tmp_path, write_clip):
    turned = "taginject tags=image-orientation=rotate-90"
    text = f"gst://videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48 ! {turned}"
    assert {tuple(frame[1:3]) for frame in read(settings(text), 3)["frames"]} == {(48, 64)}
    wide = "gst://videotestsrc num-buffers=5 ! video/x-raw,width=64,height=96,pixel-aspect-ratio=2/1"
    assert {tuple(frame[1:3]) for frame in read(settings(wide), 3)["frames"]} == {(128, 96)}


def test_the_asked_rate(read):
    text = "gst://videotestsrc num-buffers=40 is-live=true ! video/x-raw,width=64,height=48,framerate=40/1"
    said = read(settings(text, fps=10), 100)
    assert 7 <= len(said["frames"]) <= 12


def test_a_clip_through_decodebin(read, clip):
    said = read(settings(f"gst://filesrc location={clip} ! decodebin"), 1000)
    assert (said["error"], said["ended"]) == (None, True)
    assert {tuple(frame[1:3]) for frame in said["frames"]} == {(160, 96)}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "gst://videotestsrc ! nosuchelement",
            'refused: GStreamer cannot build the pipeline: no element "nosuchelement"',
        ),
        ("gst://filesrc location=/nowhere ! decodebin", "filesrc0: Resource not found."),
        ("gst://videotestsrc is-live=true ! valve drop=true", "no picture for 0.6 s"),
    ],
)
def test_what_goes_wrong_is_one_clear_error(read, source, words):
    said = read(settings(source, open_timeout_s=0.3, read_timeout_s=0.3), 5)
    assert said["error"] == f"camera gate ({source}): {words}"


def test_a_changed_picture_size_is_an_error(read, tmp_path, write_clip):
    small, large = write_clip(tmp_path / "s.264", count=20), write_clip(tmp_path / "l.264", count=20, size=(320, 192))
    both = tmp_path / "both.264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    # paced, so that the newest-picture sink does not skip the small ones
    said = read(settings(f"gst://filesrc location={both} ! h264parse ! avdec_h264 ! identity sync=true"), 100)
    assert "picture size changed from 160x96 to 320x192" in said["error"]


def test_without_gstreamer_the_error_says_what_to_install():
    said = subprocess.run(
        [sys.executable, "-S", "-c", _WITHOUT_GI],
        env={"PYTHONPATH": _paths()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "apt install python3-gi" in said.stdout, said.stderr


def _paths() -> str:
    return os.pathsep.join([str(REPOSITORY), *(path for path in sys.path if path and "/usr/lib/python3" not in path)])


_WITHOUT_GI = """
import sys
sys.modules["gi"] = None  # as if it were not installed
from edge_app.sources import check_source
from edge_app.sources.settings import CameraSettings
print(check_source(CameraSettings(id="gate", source="gst://videotestsrc")))
"""
