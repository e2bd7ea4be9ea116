"""The contract: what is sent validates, what is read is tolerant, the committed documents are those of the models."""

import json
import re
import uuid
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.contract.envelope import rfc3339, uuid7
from edge_app.contract.errors import MessageError
from edge_app.contract.messages import Match
from edge_app.contract.samples import SITE, golden_samples
from edge_app.contract.schemas import FOLDER, documents, json_schema
from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES, RULES, decode, encode, parse_topic, stamp, topic_of

SAMPLES = golden_samples()


def test_committed_documents_are_those_of_the_models():
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == documents(), "run: python -m edge_app.contract.schemas"


def test_there_is_a_sample_of_every_kind():
    assert set(SAMPLES) == set(RULES)


@pytest.mark.parametrize("kind", list(RULES))
def test_golden_sample_goes_round_and_validates(kind, validate):
    message, topic = SAMPLES[kind], topic_of(SAMPLES[kind], SITE)
    payload = encode(message)
    assert decode(topic, payload) == message
    assert validate(topic, payload) == message
    assert topic.count("/") <= 6
    assert topic.isascii()
    jsonschema.Draft202012Validator.check_schema(json_schema(message.message))


GOLDEN = json.loads((Path(__file__).parent / "golden" / "samples-1.0.json").read_text(encoding="utf-8"))
NEVER_SENT = {"sighting", "model_state", "command"}  # of 1.0: promised, sent by nobody, and gone with 1.1


def test_golden_samples_of_1_0_are_still_read():
    assert set(GOLDEN) - NEVER_SENT == set(RULES) - {"birth_page"}
    for kind, sample in GOLDEN.items():
        if kind in NEVER_SENT:
            with pytest.raises(MessageError, match="not in the tree"):
                decode(sample["topic"], json.dumps(sample["payload"]).encode())
            continue
        message = decode(sample["topic"], json.dumps(sample["payload"]).encode())
        again = json.loads(encode(message))
        assert only_what_was(again, sample["payload"]) == sample["payload"], f"{kind}: a field of 1.0 has changed"


def only_what_was(now, before):
    """Without the fields that were added since, however deep."""
    if isinstance(now, dict) and isinstance(before, dict):
        return {key: only_what_was(now[key], value) for key, value in before.items() if key in now}
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [only_what_was(*pair) for pair in zip(now, before, strict=True)]
    return now


def test_a_match_of_1_0_does_not_know_where_it_was():
    sample = GOLDEN["match"]
    message = decode(sample["topic"], json.dumps(sample["payload"]).encode())
    assert (message.waited_for, message.from_.place, message.to.place) == (None, None, None)
    assert (message.from_.entry_time, message.to.exit_time) == (None, None)


def test_asyncapi_names_every_channel_once_and_every_schema_file_exists():
    document = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))
    assert document["asyncapi"] == "3.0.0"
    assert {
        channel["address"].removeprefix("crosslane/v1/{site}/{node}/") for channel in document["channels"].values()
    } == {rule.path for rule in RULES.values()}
    for channel in document["channels"].values():
        assert set(channel["parameters"]) == set(re.findall(r"\{(\w+)\}", channel["address"]))
    for message in document["components"]["messages"].values():
        assert (FOLDER / message["payload"]["schema"]["$ref"]).is_file()


def test_a_reader_ignores_what_it_does_not_know():
    message = SAMPLES["match"]
    fields = json.loads(encode(message)) | {"added_in_a_later_release": [1, 2]}
    assert decode(topic_of(message, SITE), json.dumps(fields).encode()) == message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event_id": "7"}, "event_id"),
        ({"posterior": 1.2}, "posterior"),
        ({"state": "maybe"}, "state"),
        ({"node": "edge-2"}, "the message says node 'edge-2'"),
        ({"schema": "crosslane/v2/match"}, "schema"),
    ],
)
def test_a_message_that_breaks_the_contract_is_named(change, expected):
    message = SAMPLES["match"]
    payload = json.dumps(json.loads(encode(message)) | change).encode()
    with pytest.raises(MessageError, match=re.escape(expected)):
        decode(topic_of(message, SITE), payload)


def test_not_json_and_too_large_are_refused():
    topic = topic_of(SAMPLES["match"], SITE)
    with pytest.raises(MessageError, match="JSON"):
        decode(topic, b"{")
    with pytest.raises(MessageError, match="at most 16384"):
        decode(topic, b" " * (PAYLOAD_LIMIT_BYTES + 1))
    with pytest.raises(MessageError, match="at most 16256"):
        encode(SAMPLES["gap"].model_copy(update={"counts": {f"kind-{i}": i for i in range(2000)}}))


def test_class_and_from_are_written_by_their_names_in_the_contract():
    fields = json.loads(encode(SAMPLES["match"]))
    assert fields["class"] == "car"
    assert fields["from"]["exit_time"] == rfc3339(fields["from"]["exit_time_s"])
    assert fields["schema"] == "crosslane/v1/match"
    assert isinstance(SAMPLES["match"], Match)


@pytest.mark.parametrize(
    "topic",
    [
        "crosslane/v2/demo/edge-1/state",
        "crosslane/v1/demo/edge-1",
        "crosslane/v1/demo/edge 1/state",
        "crosslane/v1/demo/+/state",
        "crosslane/v1/demo/edge-1/camera/north/state/extra",
        "crosslane/v1/demo/edge-1/birth/1",
        "crosslane/v1/demo/edge-1/sighting/north",
        "crosslane/v1/demo/edge-1/cmd/forget",
        "crosslane/v1/demo/edge-1/agg/traveltime/north",
    ],
)
def test_a_topic_outside_the_tree_is_refused(topic):
    with pytest.raises(MessageError, match="not in the tree"):
        parse_topic(topic)


def test_a_topic_is_taken_apart():
    parsed = parse_topic("crosslane/v1/demo/edge-1/agg/traveltime/north--cam_2")
    assert (parsed.site, parsed.node, parsed.kind, parsed.fields) == (
        "demo", "edge-1", "traveltime", {"link": "north--cam_2"}
    )  # fmt: skip


def test_a_site_that_is_no_slug_is_refused():
    with pytest.raises(MessageError, match="not a slug"):
        topic_of(SAMPLES["state"], "my site")


def test_the_rules_of_expiry():
    assert RULES["match_provisional"].expiry_s
    assert RULES["health"].expiry_s
    assert all(RULES[kind].expiry_s is None for kind in ("match", "revision", "gap", "flow", "traveltime", "od"))
    assert {kind for kind, rule in RULES.items() if rule.retain} == {"state", "birth", "birth_page", "camera_state"}


def test_stamp_changes_only_the_sending():
    topic, before = topic_of(SAMPLES["match"], SITE), SAMPLES["match"]
    after = decode(topic, stamp(encode(before), 1767229200.5, historical=True))
    assert after.published_at == "2026-01-01T01:00:00.500Z"
    assert after.historical
    assert after == before.model_copy(update={"published_at_s": 1767229200.5, "historical": True})


@given(st.floats(0, 4e9), st.binary(max_size=40))
def test_uuid7_is_a_uuid_of_version_7_and_of_its_time(time_s, content):
    text = uuid7(time_s, content)
    value = uuid.UUID(text)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == round(time_s * 1000)
    assert text == uuid7(time_s, content)
    assert text != uuid7(time_s, content + b"!")


@given(st.floats(0, 4e9))
def test_text_and_seconds_are_the_same_instant(time_s):
    from datetime import datetime

    text = rfc3339(time_s)
    assert abs(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - time_s) <= 0.000501
