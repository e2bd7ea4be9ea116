"""Real RTSP cameras (GStreamer's RTSP server in a process of its own), through PyAV."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from odd_cameras import OddCamera

from edge_app.errors import SourceError
from edge_app.sources import check_source, open_source
from edge_app.sources.cameras import Cameras
from edge_app.sources.settings import CameraSettings

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).parent / "rtsp_server.py"
GSTREAMER_READER = REPOSITORY / "tests" / "edge_app" / "sources" / "gstreamer_reader.py"
_IMPORTS = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('qtdemux', 'rtph264pay')))"
)


@pytest.fixture(scope="module")
def python_with_server() -> str:
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        if python and subprocess.run([python, "-c", _IMPORTS], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("no RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Path]:
    """A minute of a moving picture at 25 fps, a key frame every second, in two sizes."""
    import av

    folder = tmp_path_factory.mktemp("films")
    films = {}
    for name, (width, height) in {"small": (160, 96), "large": (320, 192)}.items():
        films[name] = folder / f"{name}.mp4"
        with av.open(str(films[name]), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 25
            stream.codec_context.time_base = Fraction(1, 25)
            for index in range(1500):
                image = np.full((height, width, 3), 32 + index % 192, np.uint8)
                picture = av.VideoFrame.from_ndarray(image, format="bgr24")
                picture.pts = index
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
    return films


class Camera:
    """An RTSP camera that can be switched on, off (killed), and stopped in mid-air (its process paused)."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._process: subprocess.Popen | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/clip"

    def on(self, film: Path, login: str = "") -> None:
        command = [self._python, str(SERVER), str(self.port), str(film), *([login] if login else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout.readline() == "ready\n"

    def off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)


@pytest.fixture
def camera(python_with_server):
    camera = Camera(python_with_server)
    yield camera
    camera.off()


@pytest.fixture
def second_camera(python_with_server):
    camera = Camera(python_with_server)
    yield camera
    camera.off()


class Watch:
    """A pipeline in the background that only looks at what comes."""

    def __init__(self, *sources: CameraSettings) -> None:
        self.cameras = Cameras(sources, "live")
        self.frames: dict[str, list] = {source.id: [] for source in sources}  # (monotonic, capture time, size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        for _, frames in self.cameras.ticks(self._stop):
            for frame in frames:
                self.frames[frame.camera].append((time.monotonic(), frame.time_s, (frame.width_px, frame.height_px)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.cameras.close()

    def state(self, camera: str) -> str:
        return self.cameras.states()[camera].state

    def seconds_until(self, condition, limit_s: float) -> float:
        began_s = time.monotonic()
        while not condition():
            assert time.monotonic() - began_s < limit_s, self.cameras.states()
            time.sleep(0.02)
        return time.monotonic() - began_s


def rate(times_s) -> float:
    return len(times_s) / (times_s[-1] - times_s[0])


def settings(camera: Camera, id: str = "gate", **more) -> CameraSettings:
    return CameraSettings(id=id, source=camera.url, **more)


def test_frames_arrive_with_the_time_of_day(camera, films):
    camera.on(films["small"])
    source = open_source(settings(camera))
    frames = [source.read() for _ in range(50)]
    source.close()
    times = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert abs(times[-1] - time.time()) < 5.0  # a busy machine decodes late
    assert np.median(np.diff(times)) == pytest.approx(0.04, abs=0.01)
    assert (frames[0].width_px, frames[0].height_px) == (160, 96)
    assert source.losses.words() == ()


def test_the_asked_rate(camera, films):
    camera.on(films["small"])
    source = open_source(settings(camera, fps=5))
    times = [source.read().time_s for _ in range(10)]
    source.close()
    assert np.median(np.diff(times)) == pytest.approx(0.2, abs=0.05)


@pytest.mark.slow
def test_a_killed_camera_is_reported_and_comes_back_while_the_other_runs_on(camera, second_camera, films):
    camera.on(films["small"])
    second_camera.on(films["small"])
    with Watch(settings(camera, "gate"), settings(second_camera, "yard")) as watch:
        watch.seconds_until(lambda: len(watch.frames["gate"]) > 20 and len(watch.frames["yard"]) > 20, 15)
        camera.off()
        off_s = time.monotonic()
        reported_s = watch.seconds_until(lambda: watch.state("gate") != "ok", 5)
        assert watch.state("yard") == "ok"
        time.sleep(6)  # the back-off has reached its limit
        last_time_s = watch.frames["gate"][-1][1]
        count = len(watch.frames["gate"])
        camera.on(films["large"])  # another picture size after its return
        back_s = watch.seconds_until(lambda: watch.state("gate") == "ok" and len(watch.frames["gate"]) > count + 5, 10)
        states = watch.cameras.states()
    print(f"reported after {reported_s:.1f} s, back after {back_s:.1f} s")
    assert states["gate"].reconnects >= 1
    assert watch.frames["gate"][count][1] > last_time_s
    assert watch.frames["gate"][-1][2] == (320, 192)
    assert states["yard"].reconnects == 0
    arrivals = [at_s for at_s, _, _ in watch.frames["yard"]]
    assert max(later - earlier for earlier, later in pairwise(arrivals)) < 2.0
    before_s, away_s = [at for at in arrivals if at < off_s], [at for at in arrivals if at > off_s]
    assert rate(away_s) > 0.5 * rate(before_s), "the other camera pays for the one that is away"


@pytest.mark.slow
def test_a_camera_that_stays_connected_but_falls_silent_is_reported_and_comes_back(camera, films):
    camera.on(films["small"])
    with Watch(settings(camera)) as watch:
        watch.seconds_until(lambda: len(watch.frames["gate"]) > 20, 15)
        camera.signal(signal.SIGSTOP)
        reported_s = watch.seconds_until(lambda: watch.state("gate") == "stalled", 5)
        # gave up waiting, tries to connect
        watch.seconds_until(lambda: "no data for 4 s" in (watch.cameras.states()["gate"].last_error or ""), 5)
        assert watch.state("gate") in ("stalled", "offline")  # what is told of it is damped by health
        count = len(watch.frames["gate"])
        camera.signal(signal.SIGCONT)
        back_s = watch.seconds_until(lambda: watch.state("gate") == "ok" and len(watch.frames["gate"]) > count, 10)
        times = [time_s for _, time_s, _ in watch.frames["gate"]]
    print(f"reported after {reported_s:.1f} s, back after {back_s:.1f} s")
    assert all(later > earlier for earlier, later in pairwise(times))


def test_wrong_password_and_wrong_path_are_clear_errors(camera, films, monkeypatch, capfd):
    camera.on(films["small"], login="admin:s3cret")
    monkeypatch.setenv("GATE_PASSWORD", "wr0ng")
    problem = check_source(settings(camera, username="admin", password_env="GATE_PASSWORD"))
    assert problem.startswith(f"camera gate ({camera.url}): refused: the camera refuses user name or password")
    assert "refuses user name or password" in check_source(settings(camera))
    monkeypatch.setenv("GATE_PASSWORD", "s3cret")
    right = {"username": "admin", "password_env": "GATE_PASSWORD"}
    assert check_source(settings(camera, **right)) is None
    elsewhere = CameraSettings(id="gate", source=camera.url + "/elsewhere", **right)
    with pytest.raises(SourceError, match="the camera answers, but has no stream of this path") as caught:
        open_source(elsewhere)
    assert "s3cret" not in str(caught.value)
    printed = capfd.readouterr()
    assert "wr0ng" not in printed.out + printed.err
    assert "s3cret" not in printed.out + printed.err


def test_through_gstreamer(camera, films, python_with_server, monkeypatch):
    camera.on(films["small"], login="admin:s3cret")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]))
    monkeypatch.setenv("GATE_PASSWORD", "s3cret")

    def read(**login):
        what = settings(camera, decoder="nvdec", **login).model_dump_json()
        command = [python_with_server, str(GSTREAMER_READER), what, "40", "software"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if "ImportError" in done.stderr or "avdec_h264" in done.stdout:
            pytest.skip("GStreamer's Python cannot import our libraries, or has no H.264 decoder (gstreamer1.0-libav)")
        return json.loads(done.stdout)

    said = read(username="admin", password_env="GATE_PASSWORD")
    times = [frame[0] for frame in said["frames"]]
    assert said["error"] is None
    assert len(times) == 40
    assert all(later > earlier for earlier, later in pairwise(times))
    assert np.median(np.diff(times)) == pytest.approx(0.04, abs=0.01)
    assert abs(times[-1] - time.time()) < 2.0
    monkeypatch.setenv("GATE_PASSWORD", "wr0ng")
    said = read(username="admin", password_env="GATE_PASSWORD")
    error = said["error"]
    assert said["refused"]
    assert error.startswith(f"camera gate ({camera.url}): refused: the camera refuses user name or password")


@pytest.mark.parametrize(
    ("answer", "words", "refused"),
    [
        (403, "refused: the camera does not let this user see the stream", True),
        (404, "refused: the camera answers, but has no stream of this path", True),
        (454, "refused: the camera refuses what it is asked for (Session Not Found, 454)", True),
        (503, "the camera answers Unavailable (503)", False),
    ],
)
def test_gstreamer_tells_a_refusal_from_a_lost_cable(python_with_server, monkeypatch, answer, words, refused):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]))
    with OddCamera(answer) as odd:
        what = CameraSettings(id="gate", source=odd.url, decoder="nvdec").model_dump_json()
        command = [python_with_server, str(GSTREAMER_READER), what, "5", "software"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if "ImportError" in done.stderr or "avdec_h264" in done.stdout:
            pytest.skip("GStreamer's Python cannot import our libraries, or has no H.264 decoder (gstreamer1.0-libav)")
        said = json.loads(done.stdout)
        assert said["error"] == f"camera gate ({odd.url}): {words}"
        assert said["refused"] == refused
