"""`edge-app look`, `check` and a running node's page, in processes of their own, on drawn cameras."""

import socket
import time
import urllib.error
import urllib.request

import av
import pytest
from edge_commands import Group

from edge_app.demo.play import Play, raw_config


def site(group: Group, name: str, seconds: float, **changes: object):
    raw = raw_config(Play(seconds=seconds, fidelity="frames", speed=None), group.folder / f"{name}.db", None)
    raw["cameras"], raw["links"] = raw["cameras"][:2], raw["links"][:1]
    return group.write(name, raw | changes)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    made = Group(tmp_path_factory.mktemp("look"))
    path, port = site(made, "short", 14.0), free_port()
    made.start("look", "look", "--config", path, "--out", made.folder / "out")
    made.start("replay", "replay", "--config", path, "--out", made.folder / "facts.jsonl")
    made.start("elsewhere", "look", "--config", path, "--camera", "bridge")
    made.start("nowhere", "look", "--config", path, "--out", path / "below")
    long = site(made, "long", 600.0, look={"port": port, "seconds": 3}, ticks={"mode": "lockstep", "speed": 1.0})
    made.start("check", "check", "--config", long)
    assert made["check"].code == 0, made["check"].error
    made.port = port
    made.start("run", "run", "--config", long)
    yield made
    made.kill()


@pytest.mark.slow
def test_a_page_and_a_video_of_each_camera(group):
    assert group["look"].code == 0, group["look"].error
    said = group["look"].out
    assert "camera gate, " in said
    assert "camera market, " in said
    assert "passages: " in said
    assert said.splitlines()[-1] == f"the page: {group.folder}/out/look.html"
    page = (group.folder / "out" / "look.html").read_text()
    assert page.count("data:image/jpeg") > 12
    for camera in ("gate", "market"):
        with av.open(str(group.folder / "out" / f"{camera}.mp4")) as film:
            frames = [frame.time for frame in film.decode(video=0)]
        assert frames[-1] - frames[0] == pytest.approx(14.0, abs=0.5)
        assert f'href="{camera}.mp4"' in page
    assert not (group.folder / "short.db").exists(), "a look stores nothing"


@pytest.mark.slow
def test_a_replay_with_few_passages_says_what_the_cameras_see(group):
    assert group["replay"].code == 0, group["replay"].error
    lines = group["replay"].out.splitlines()
    assert "`edge-app look` shows it" in lines
    assert any(line.startswith("camera gate, ") and line.endswith(" passages:") for line in lines)


@pytest.mark.slow
def test_what_cannot_be_looked_at_is_one_clear_error(group):
    group["elsewhere"].assert_refused(78, "--camera: there is no camera 'bridge'; there are gate, market")
    group["nowhere"].assert_refused(74, "choose a folder that can be written")


@pytest.mark.slow
def test_a_running_node_is_looked_at_through_its_page(group):
    assert f"look: 127.0.0.1:{group.port} is free" in group["check"].out
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{group.port}/", timeout=60) as answer:
                text = answer.read().decode()
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until, "no page"
            time.sleep(0.5)
    assert "Camera gate" in text
    assert text.count("data:image/jpeg") > 2
