"""The loop: its files are what node and trainer read, its summary keeps its promises, and all of it once for real."""

import json
import math
import time

import cv2
import pytest

from edge_app.config import load as load_node
from edge_app.demo.loop import run_loop
from edge_app.demo.loop_report import Judged, Loop, Report, Uploaded, gained_share
from edge_app.demo.loop_sites import Folders, adapted, adapting, collecting, labelled, node, sessions
from edge_app.demo.play import Play
from edge_app.demo.score import LinkScore
from edge_app.judge.shares import Share
from trainer.adapt import settings as trainer_settings

PLAY = Play("town", 60, 0.5, 60.0, fidelity="frames")
PROMISED = {
    *("recall_before", "recall_after", "recall_labelled", "precision_before", "precision_after"),
    *("facts_lost", "facts_doubled", "seconds", "cpu_seconds", "decision", "gate", "crops", "clusters"),
}


@pytest.fixture
def folders(tmp_path):
    made = Folders(tmp_path)
    made.make()
    return made


def test_node_and_trainer_read_their_files_and_share_the_store_alone(folders):
    site, adapts = load_node(collecting(PLAY, folders)), trainer_settings.load(adapting(PLAY, folders))
    assert site.collection.enabled
    assert str(site.upload.store.url) == str(adapts.store.url) == str(folders.store)
    texts = {
        folder: "".join(path.read_text() for path in folder.glob("*.yaml"))
        for folder in (folders.node, folders.trainer)
    }
    assert str(folders.trainer) not in texts[folders.node]
    assert str(folders.node) not in texts[folders.trainer]
    assert site.site == adapts.site
    assert site.embedder.path == adapts.start
    ways = [(one.from_camera, one.to_camera, one.transit.min_s, one.transit.max_s) for one in site.links]
    assert ways == [(one.from_camera, one.to_camera, one.transit.min_s, one.transit.max_s) for one in adapts.links]


def test_what_is_learned_from_is_of_today_and_apart_from_what_is_judged(folders):
    plays = sessions(PLAY, 1800.0)
    assert len({PLAY.seed, *(play.seed for play in plays)}) == 3
    later, earlier = plays
    assert earlier.start_s + 1800 <= later.start_s <= time.time() - 1800
    assert all(play.start_s % 3600 == 0 and play.start_s > time.time() - 4 * 3600 for play in plays)
    sites = [load_node(collecting(play, folders)) for play in plays]
    assert len({site.store.path for site in sites}) == len({site.collection.folder for site in sites}) == 2
    assert f"start={later.start_s:.0f}" in sites[0].cameras[0].source


def test_a_bundle_comes_with_its_makers_key(folders):
    raw = node(PLAY, folders.node / "x.db", adapted(folders.node / "b.bundle", folders.node / "k.pem"))
    assert raw["bundles"]["keys"] == [str(folders.node / "k.pem")]
    assert raw["embedder"]["path"].endswith("b.bundle")
    assert "bundles" not in node(PLAY, folders.node / "x.db", labelled())


def judged(hits: int, said: int = 50, received: int = 50) -> Judged:
    score = LinkScore("all", Share(hits, hits + 2), Share(hits, 60), Share(hits, 58))
    return Judged(score, score, said, received, 0)


def test_the_summary_keeps_its_promises(tmp_path, folders, capsys):
    one = {"number": 1, "decision": "kept", "reason": "too few exits", "done": {"choose": {"crops": 9, "passages": 3}}}
    report = Report(headless=True)
    loop = report.stage(
        "adapt", lambda: Loop(one, None, {"minimum_exits": 7}, {"sentence": "is refused: camera share"})
    )
    runs = {"before": judged(30), "after": judged(39, received=49), "labelled": judged(48)}
    summary = report.end(PLAY, Uploaded(2, 20, 8, 10**6), loop, runs, (12.3, 20.1))
    report.write(tmp_path, summary, folders)
    assert summary.keys() >= PROMISED
    assert (summary["recall_before"], summary["recall_labelled"]) == (0.5, 0.8)
    assert summary["gained_share"] == 0.5
    assert summary["facts_lost"] == 1
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert cv2.imread(str(tmp_path / "loop.png")) is not None
    said = capsys.readouterr().out
    assert "the model in force stays: too few exits" in said
    assert "minimum_exits 7" in said
    assert "by a real site's bounds: is refused: camera share" in said
    assert "gained 50%" in said


def test_where_labels_gain_nothing_there_is_no_share_of_it():
    assert gained_share(Share(30, 60), Share(40, 60), Share(30, 60)) is None
    assert gained_share(Share(0, 0), Share(0, 0), Share(0, 0)) is None
    assert gained_share(Share(30, 60), Share(29, 60), Share(40, 60)) < 0


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_once_around_for_real(tmp_path, capsys):
    """So little traffic teaches nothing that is sure; every stage is gone through, and nothing is lost on the way."""
    run_loop(PLAY, 1000.0, tmp_path, headless=True)
    summary, said = json.loads((tmp_path / "summary.json").read_text()), capsys.readouterr().out
    places = [said.index(f"\n{number}  ") for number in (1, 2, 3, 5)]
    assert places == sorted(places)
    assert summary.keys() >= PROMISED
    assert summary["crops"] > 100
    assert summary["facts_lost"] == summary["facts_doubled"] == 0
    assert summary["decision"] in {"kept", "accepted"}
    assert summary["reason"] or summary["bundle"]["bytes"] > 1e5
    assert not math.isnan(summary["recall_labelled"])
