"""The page of a look, and the running node's: real HTTP."""

import re
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from test_what_stands_out import CAR, HEIGHT, NAMES, TWO_WHEELERS, WIDTH, Grey, Table, looked, one_by_one

from edge_app import listening
from edge_app.errors import WorldError
from edge_app.look.film import Films
from edge_app.look.look import Look, Subject
from edge_app.look.page import page
from edge_app.look.record import CameraRecord
from edge_app.look.serve import LookPage, check_port
from edge_app.look.settings import LookSettings
from edge_app.look.verdict import Finding
from edge_app.meter import Meter
from edge_app.perception.crops import CropSelector, CropSettings
from edge_app.perception.finished import TrackletSettings
from edge_app.perception.perception import Perception
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.perception.tracklets import TrackletBuilder
from edge_app.store.parts import Parts
from edge_app.types import Frame


def test_the_page_shows_frames_and_crops_and_takes_nothing_from_elsewhere() -> None:
    text = looked(one_by_one(*[CAR] * 6)).html({"gate": "gate.mp4"})
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) >= 6 + 6, "six frames, and views of each car"
    assert 'href="gate.mp4"' in text
    assert not re.search(r"<script|https?://|src=\"(?!data:)", text)
    assert "passages: 6" in text


def test_names_cannot_break_the_page() -> None:
    one = CameraRecord("<b>&", frames=1, size_px=(4, 4))
    text = page("<i>", [(one, [Finding("lost", '<script>"')], None)], [], [])
    assert "<b>" not in text.replace("<body", "")
    assert "&lt;script&gt;&quot;" in text
    assert "<i>" not in text


def test_a_film_has_every_picture_at_its_time(tmp_path) -> None:
    import av

    picture = np.random.default_rng(0).integers(0, 255, (121, 201, 3)).astype(np.uint8)
    with Films(tmp_path) as films:
        for k in range(30):
            films.add("gate", 100.0 + k / 5, picture)
    assert films.addresses == {"gate": "gate.mp4"}
    with av.open(str(tmp_path / "gate.mp4")) as film:
        times = [frame.time for frame in film.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(30) / 5, atol=0.002)


@pytest.fixture
def node():
    frames = one_by_one(*[CAR] * 200)
    builder = TrackletBuilder("n1", NAMES, {}, TrackletSettings())
    bank = TrackerBank("n1", "1", {"gate": TrackSettings()}, NAMES)
    made = Perception(Table(frames), bank, CropSelector(CropSettings()), Grey(), builder, Meter(), {})
    made.restore(Parts())
    return made


def served(node: Perception, **settings) -> LookPage:
    subject = Subject("road", ("gate",), (), {}, {}, NAMES, TWO_WHEELERS, 0.25, 0.3, CropSettings(), None)
    return LookPage(LookSettings(port=0, **settings), node, lambda: Look(subject, pictures=True))


def drive(node: Perception, page: LookPage, stop: threading.Event) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for k in range(5000):
        _, tracklets = node.see(1.79e9 + k / 10, [Frame("gate", 1.79e9 + k / 10, picture, WIDTH, HEIGHT, k)])
        page.add(tracklets)
        if stop.is_set():
            return


def get(page: LookPage, path: str = "/", host: str | None = None):
    request = urllib.request.Request(f"http://127.0.0.1:{page.port}{path}", headers={"Host": host} if host else {})
    return urllib.request.urlopen(request, timeout=60)


def test_a_running_node_shows_what_it_sees_when_it_is_asked(node) -> None:
    page, stop = served(node), threading.Event()
    thread = threading.Thread(target=drive, args=(node, page, stop))
    thread.start()
    try:
        with get(page, "/?seconds=1") as answer:
            text = answer.read().decode()
            headers = answer.headers
    finally:
        stop.set()
        thread.join()
        page.close()
    assert "Camera gate" in text
    assert text.count("data:image/jpeg") > 3
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not node.detector.keeps_aside, "nothing is kept aside when the look is over"


@pytest.mark.parametrize(
    ("path", "host", "code"),
    [("/other", None, 404), ("/?seconds=x", None, 400), ("/", "evil.example:80", 403)],
)
def test_what_it_does_not_answer(node, path: str, host: str | None, code: int) -> None:
    page = served(node)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(page, path, host)
        assert caught.value.code == code
    finally:
        page.close()


def test_a_silent_camera_is_said_and_not_waited_for_for_ever(node, monkeypatch) -> None:
    monkeypatch.setattr("edge_app.look.serve.LATE_S", 0.1)
    page = served(node)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(page, "/?seconds=1")
        assert caught.value.code == 503
    finally:
        page.close()


def test_a_port_that_somebody_else_has_stops_no_node(node, monkeypatch) -> None:
    monkeypatch.setattr(listening, "TRY_AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = LookSettings(port=other.getsockname()[1])
        with pytest.raises(WorldError, match=rf"look\.port: cannot listen on 127\.0\.0\.1:{settings.port}"):
            check_port(settings)
        subject = Subject("road", ("gate",), (), {}, {}, NAMES, TWO_WHEELERS, 0.25, 0.3, CropSettings(), None)
        page = LookPage(settings, node, lambda: Look(subject, pictures=True))
        assert f"look: cannot listen on 127.0.0.1:{settings.port}" in (page.problem or "")
    until_s = time.monotonic() + 5
    while page.problem is not None:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    try:
        assert check_port(settings) == f"127.0.0.1:{settings.port}: a node is serving there", "as while it is updated"
        assert node.builder.witness is page
        assert not node.detector.keeps_aside, "asking who is there begins no look"
    finally:
        page.close()
    assert check_port(settings) == f"127.0.0.1:{settings.port} is free"
    assert "sees pictures of the cameras" in check_port(LookSettings(port=settings.port, address="0.0.0.0"))
