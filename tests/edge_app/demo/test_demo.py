"""The whole demo, with cameras that deliver detections: what the subscriber received is what is scored."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from edge_app.demo.broker import free_port
from edge_app.demo.demo import run_demo
from edge_app.demo.play import Play
from edge_app.errors import BrokerError, StoreError

PROMISED = {
    *("frames", "fps", "tracklets", "messages_received", "matches_confirmed", "link_precision", "link_recall"),
    *("baseline_precision", "baseline_recall", "outside_engine_share"),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The summary of one run and its folder."""
    out = tmp_path_factory.mktemp("demo") / "made by the demo"
    run_demo(Play("town", 7, 0.5, 60.0, fidelity="detections"), out, True, None)
    return json.loads((out / "summary.json").read_text()), out


def test_the_summary_keeps_its_promises(shown):
    summary, _ = shown
    assert summary.keys() >= PROMISED
    assert summary["frames"] == 4 * 600
    assert summary["facts_said"] == summary["facts_received"] > 20
    assert summary["messages_received"] >= summary["facts_received"]
    assert summary["matches_confirmed"] > 10
    assert summary["link_precision_counts"][1] == summary["matches_confirmed"]
    assert summary["link_precision"] >= 0.9
    assert summary["link_recall"] >= 0.7
    assert summary["baseline_precision"] < summary["link_precision"]
    assert summary["outside_engine_share"] is None  # no engine runs where cameras deliver detections
    assert summary["first_match_after_s"] > 0


def test_the_links_add_up(shown):
    summary, _ = shown
    for name in ("link_precision_counts", "link_recall_counts"):
        parts = [link[name] for link in summary["links"]]
        assert sum(part[0] for part in parts) == summary[name][0]
    low, high = summary["link_precision_interval"]
    assert low <= summary["link_precision"] <= high


def test_both_pictures_are_there(shown):
    _, out = shown
    assert all(cv2.imread(str(out / name)) is not None for name in ("matches.png", "timeline.png"))


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="--out"):
        run_demo(Play(seconds=10.0), tmp_path / "file" / "out", True, None)


def test_a_broker_that_is_not_there_is_said_at_once():
    with pytest.raises(BrokerError, match="could not listen"):
        run_demo(Play(seconds=10.0), None, True, f"127.0.0.1:{free_port()}")


def test_a_broker_of_your_own(mosquitto, tmp_path):
    run_demo(Play("town", 7, 0.5, 45.0), tmp_path, True, f"{mosquitto.host}:{mosquitto.port}")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["facts_said"] == summary["facts_received"] > 3


def test_ctrl_c_ends_it_early_with_the_score_so_far(tmp_path):
    code = (
        "from edge_app.demo.demo import run_demo; from pathlib import Path; "
        "from edge_app.demo.play import Play; "
        f"run_demo(Play('town', 7, 0.5, 600.0, speed=8.0), Path({str(tmp_path)!r}), True, None)"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stdout:
        if "confirmed" in line:
            break
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "How good it was" in rest
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 0 < summary["frames"] < 4 * 6000
    assert 0 < summary["stopped_after_s"] < 600
    assert summary["matches_confirmed"] >= 1
