"""Real people and real traffic, from recordings through both models to a subscriber behind Mosquitto."""

import json
import threading
import time

import pytest
from real_clips import clip_config, cut, first_of_terrace

from edge_app import app
from edge_app.associate.facts import standing_matches
from edge_app.config import parse
from edge_app.contract.messages import Match, NodeState
from edge_app.demo.received import facts_of
from edge_app.pictures.album import Album
from edge_app.pictures.sheet import contact_sheet, pairs_of
from edge_app.replay import replay_site

PEOPLE = 4  # who come in the first 42 seconds, counted by eye: each of them is in both views


@pytest.mark.long
def test_people_are_seen_again_on_the_other_camera(shared_data, mosquitto, subscribe, tmp_path):
    subscriber = subscribe(mosquitto.port)
    config = first_of_terrace(shared_data, tmp_path, {"host": mosquitto.host, "port": mosquitto.port})
    album, said, began_s = Album(), [], time.monotonic()
    with app.Node(config) as node:
        for step in node.steps(threading.Event()):
            album.add(step.views)
            said += [fact.event_id for fact in step.facts if hasattr(fact, "from_") or hasattr(fact, "revises")]
        assert node.failed_cameras() == []
    subscriber.wait(lambda seen: any(message.state == "offline" for message in seen.of(NodeState)))
    assert time.monotonic() - began_s < 120

    received = [message for message in subscriber.messages if message.event_id in set(said)]
    assert [message.event_id for message in received] == said  # all of them, in order; each was validated on arrival
    assert {message.embedding_version for message in subscriber.of(Match)} == {"osnet-x0.25-msmt17"}
    matches = standing_matches(facts_of(received))
    crossed = [match for match in matches if match.link == "south--north"]
    assert PEOPLE - 1 <= len(crossed) <= PEOPLE + 1  # three when this was written, all right by eye
    assert all(match.class_name == "person" and 15 <= match.transit_s <= 110 for match in crossed)
    assert len({match.global_id for match in crossed}) == len(crossed)

    sheet = tmp_path / "matches.png"
    contact_sheet(pairs_of(matches, album), sheet, "Seen again", "terrace, first 42 s")
    assert sheet.stat().st_size > 50_000
    assert all(album.picture(end.track) is not None for match in matches for end in (match.from_, match.to))


@pytest.mark.slow
def test_vehicles_are_tracked(shared_data, tmp_path):
    """Eight seconds of a dense motorway; the same bytes when it is played again."""
    whole = shared_data / "videos" / "traffic.mp4"
    cut(whole, tmp_path / "traffic.mp4", 8.0)
    config = clip_config("traffic", shared_data, tmp_path / "traffic.db")
    raw = config.model_dump(mode="json", exclude_unset=True)
    raw["cameras"][0].update(source=str(tmp_path / "traffic.mp4"), fps=5)
    config = parse(raw, tmp_path / "traffic.yaml")
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    replay_site(config, first)
    replay_site(config, second)
    assert first.read_bytes() == second.read_bytes()
    lines = [json.loads(line) for line in first.read_text().splitlines()]
    begun = [line["unmatched"] for line in lines if "unmatched" in line]
    assert len(begun) >= 10
    assert {one["camera"] for one in begun} == {"motorway"}
    assert {one["class"] for one in begun} <= {"car", "truck", "bus", "motorcycle"}
