"""`edge-app replay` says what it found, what it lost, and why passages were not matched."""

import json
import re
import socket
import threading

import pytest

from edge_app.app import Node
from edge_app.associate.facts import standing_matches
from edge_app.config import parse
from edge_app.contract.topics import decode
from edge_app.demo.judgement import judge as judge_simulated
from edge_app.demo.play import Play, raw_config
from edge_app.judge.truth import Watched
from edge_app.replay import CLOCK, Account, offline, replay_site, true_passages
from edge_app.sources.simulated import world_of

START_S = 1_700_000_100.0  # a multiple of 300


def replayed(tmp_path, seconds=60.0, start_s=START_S, truth=None, **changes):
    """(what is said, messages of the file)"""
    raw = raw_config(Play(seconds=seconds, start_s=start_s), tmp_path / "unused.db", None) | changes
    out = tmp_path / "facts.jsonl"
    said = replay_site(parse(raw, tmp_path / "site.yaml"), out, truth=truth)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return said, [decode(line["topic"], json.dumps(line["payload"]).encode()) for line in lines if "topic" in line]


def of(messages, kind):
    return [message for message in messages if message.message == kind]


def test_every_interval_is_said_with_its_true_coverage(tmp_path):
    """69 seconds that begin with an interval of a minute: all of the first, nine seconds of the second."""
    said, messages = replayed(tmp_path, 69.0, aggregate={"interval_s": 60})
    flows = of(messages, "flow")
    coverage = {(one.camera, one.interval_start_s): one.coverage for one in flows}
    cameras = {camera for camera, _ in coverage}
    assert len(cameras) == 4
    for camera in cameras:
        assert coverage[camera, START_S] > 0.99
        assert coverage[camera, START_S + 60] == pytest.approx(9 / 60, abs=0.005)
    last = {(one.camera, one.interval_start_s): one for one in flows}.values()  # the last revision of each
    (tracklets,) = map(int, re.findall(r"(\d+) tracklets,", said))
    assert sum(count.n for one in last for count in one.counts) == tracklets > 20
    assert {one.interval_start_s for one in of(messages, "od")} == {START_S, START_S + 60}


def test_why_nothing_was_matched(tmp_path):
    links = raw_config(Play(), tmp_path / "x.db", None)["links"]
    far = [{**link, "transit": {"min_s": 500, "max_s": 900}} for link in links]
    for changes, expected in (
        ({"links": []}, "no links are configured"),
        ({"links": far}, "nobody had left a linked camera within the link's travel times"),
        ({"crops": {"minimum_side_px": 5000}}, "it has no embedding: it is never 5000 px wide and high"),
    ):
        said, messages = replayed(tmp_path, 15.0, **changes)
        assert said.startswith("0 of "), said
        assert expected in said
        assert not of(messages, "match")


def test_how_many_matches_may_be_wrong_is_said(tmp_path):
    """From the recordings alone. A link of at most 14 seconds: 90 are long enough."""
    short = [{"from_camera": "gate", "to_camera": "market", "transit": {"min_s": 5, "max_s": 14}}]
    said, messages = replayed(tmp_path, 90.0, links=short)
    assert of(messages, "match")
    (line,) = (line for line in said.splitlines() if line.startswith("without a truth: "))
    assert re.search(r"about \d+\.\d% of the matches are wrong, \d+\.\d% at most; \d+ were confirmed among", line)
    said, _ = replayed(tmp_path, 20.0)
    assert "can be told without a truth from" in said


def test_nothing_seen_at_all(tmp_path):
    said, _ = replayed(tmp_path, 10.0, tracklets={"minimum_observations": 10_000})
    assert said.startswith("no passage was seen")
    assert "tracks were too short to count" in said


def test_the_port_of_a_running_node_is_left_alone(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        said, _ = replayed(tmp_path, 10.0, health={"prometheus_port": other.getsockname()[1]})
    assert "facts → " in said


def true_boxes(tmp_path, seconds):
    """The town's truth as JSON lines, every vehicle that is to be seen in every frame; the world, the file."""
    world = world_of(
        raw_config(Play(seconds=seconds, start_s=START_S), tmp_path / "x.db", None)["cameras"][0]["source"]
    )
    lines = []
    for camera in world.cameras:
        for frame in range(int(seconds * camera.fps)):
            truth = world.visible(camera.id, START_S + frame / camera.fps)
            for box, passage in zip(truth.boxes.tolist(), truth.passages, strict=True):
                row = {"camera": camera.id, "frame": frame, "box": box, "id": passage.vehicle}
                lines.append(json.dumps(row | {"class": passage.class_name}))
    (tmp_path / "truth.jsonl").write_text("\n".join(lines))
    return world, tmp_path / "truth.jsonl"


def test_beside_a_truth_from_a_file_it_is_judged_as_beside_the_simulation(tmp_path):
    world, truth = true_boxes(tmp_path, 60.0)
    config = parse(
        raw_config(Play(seconds=60.0, start_s=START_S), tmp_path / "unused.db", None), tmp_path / "site.yaml"
    )
    beside = true_passages(config, truth)
    account = Account(config, beside=beside)
    with Node(offline(config, tmp_path), CLOCK, lineage="replay") as node:
        node.perception.detector = Watched(node.detector, beside)
        for step in node.steps(threading.Event()):
            account.add(step)
    verdict = account.verdict()
    matches = standing_matches(account.facts)
    score = judge_simulated(world, account.tracklets, matches, (world.start_s, world.end_s)).score
    assert (verdict.links[0].precision, verdict.links[0].precision.count > 5) == (score.total.precision, True)
    assert {row.link: row.precision for row in verdict.links[1:]} == {row.link: row.precision for row in score.links}
    said, _ = replayed(tmp_path, 60.0, truth=truth)
    assert f"all links: precision {score.total.precision}, recall" in said


def test_boxes_and_truth_from_one_file_see_everything(tmp_path):
    _, truth = true_boxes(tmp_path, 30.0)
    said, _ = replayed(tmp_path, 30.0, truth=truth, detector={"recorded": str(truth)})
    cameras = re.findall(r"camera (\S+): seen (\S+) .*; counted (\d+) of (\d+)", said)
    assert len(cameras) == 4, said
    assert all(float(seen) > 0.85 for _, seen, _, _ in cameras), said
    assert "the detector did not find it" not in said
