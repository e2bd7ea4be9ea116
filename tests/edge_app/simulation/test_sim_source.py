"""Simulated cameras as sources: addresses, capture times, resuming, ending."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_app.errors import SourceError
from edge_app.sources.simulated import SimulatedSource, parse_sim_url, world_of

START_S = 1_700_000_000.0


def test_an_address_is_read_with_its_defaults() -> None:
    parsed = parse_sim_url("sim://town/gate")
    assert (parsed.site, parsed.camera, parsed.seed, parsed.fidelity) == ("town", "gate", 7, "frames")
    full = parse_sim_url(
        "sim://grid-4/c002?seed=3&difficulty=0.25&seconds=9&fidelity=detections&persons=1&start=100.5&fps=5"
    )
    assert (full.seed, full.difficulty, full.seconds, full.persons) == (3, 0.25, 9.0, True)
    assert (full.start_s, full.fps, full.fidelity) == (100.5, 5.0, "detections")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sim://village/gate", "unknown simulated site 'village'"),
        ("sim://town/zoo", "no camera 'zoo': it has gate, market, bridge, harbour"),
        ("sim://town", "expected sim://<site>/<camera>"),
        ("rtsp://town/gate", "expected sim://<site>/<camera>"),
        ("sim://town/gate?sed=7", "unknown parameter 'sed'"),
        ("sim://town/gate?seed=x", "seed is 'x', expected a whole number"),
        ("sim://town/gate?difficulty=2", "difficulty is '2', expected a number from 0"),
        ("sim://town/gate?fidelity=film", "expected frames or detections"),
        ("sim://town/gate?seconds=nan", "seconds is 'nan'"),
        ("sim://town/gate?persons=yes", "expected 0 or 1"),
    ],
)
def test_a_wrong_address_is_one_clear_error(url: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_sim_url(url)
    assert message in str(caught.value)


def test_cameras_of_one_world_share_it() -> None:
    assert world_of("sim://town/gate?seconds=33") is world_of("sim://town/market?seconds=33&fidelity=detections&fps=3")


def test_detections_fidelity_delivers_times_without_pixels() -> None:
    source = SimulatedSource("sim://town/gate?seconds=3&fidelity=detections")
    frames = list(iter(source.read, None))
    assert [frame.sequence for frame in frames] == list(range(30))
    assert np.allclose(np.diff([frame.time_s for frame in frames]), 0.1, atol=1e-6)
    assert frames[0].time_s == START_S
    assert frames[0].image is None
    assert source.read() is None


@pytest.mark.parametrize("steps", [0, 1, 7, 29, 30])
def test_resuming_continues_strictly_after_the_last_frame(steps: int) -> None:
    address = "sim://town/gate?seconds=3&fidelity=detections"
    whole = [frame.time_s for frame in iter(SimulatedSource(address).read, None)]
    last = whole[steps - 1] if steps else START_S - 1.0
    rest = [frame.time_s for frame in iter(SimulatedSource(address, after_s=last).read, None)]
    assert rest == whole[steps:]


def test_frames_are_drawn_ahead_and_are_the_renderers() -> None:
    from edge_app.simulation.render import Renderer

    address = "sim://town/bridge?seconds=2&difficulty=0.3"
    source = SimulatedSource(address, after_s=START_S + 0.35)
    frames = list(iter(source.read, None))
    source.close()
    assert len(frames) == 16
    expected = Renderer(world_of(address), "bridge").frame(frames[9].time_s)
    assert np.array_equal(frames[9].image, expected)


def test_closing_ends_the_drawing_process() -> None:
    source = SimulatedSource("sim://town/gate?seconds=60")
    assert source.read() is not None
    child = source._ahead._child
    source.close()
    source.close()
    assert child.poll() is not None
    assert source.read() is None


def test_a_killed_drawing_process_is_a_source_error() -> None:
    source = SimulatedSource("sim://town/gate?seconds=60")
    assert source.read() is not None
    source._ahead._child.kill()
    with pytest.raises(SourceError, match="the process that draws simulated camera 'gate' ended"):
        list(iter(source.read, None))
    source.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_the_drawing_process_dies_with_its_parent() -> None:
    script = (
        "from edge_app.sources.simulated import SimulatedSource\n"
        "import time\n"
        "source = SimulatedSource('sim://town/gate?seconds=600')\n"
        "source.read()\n"
        "print(source._ahead._child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def _alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_pace_delivers_in_real_time() -> None:
    source = SimulatedSource("sim://town/gate?seconds=1&fidelity=detections", pace=2.0)
    begin = time.monotonic()
    assert len(list(iter(source.read, None))) == 10
    assert 0.4 < time.monotonic() - begin < 2.0
