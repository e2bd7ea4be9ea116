"""`edge-app forget`: afterwards no file of the node holds a byte of it, the others stay, and the receipt says so."""

import json
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import yaml
from tiny_shard import crop

from edge_app.associate import codec
from edge_app.associate.state import CameraModel, Identity, Passage, Proxy, State
from edge_app.collection.forget import close_all
from edge_app.collection.spool import Spool
from edge_app.config import load
from edge_app.contract.crop import Verdict
from edge_app.contract.forgetting import Selection
from edge_app.contract.samples import golden_samples
from edge_app.contract.shard import read_shard
from edge_app.contract.topics import topic_of
from edge_app.delivery.outgoing import Letterhead, gap_row
from edge_app.errors import StoreError
from edge_app.forget import forget
from edge_app.perception.perception import TRACKLETS
from edge_app.store.parts import Parts
from edge_app.store.rows import Row
from edge_app.store.store import Store

EPOCH_S = 1_700_000_000.0  # as `tiny_shard` counts: track n enters at n seconds, and leaves ten seconds later


ENTERED = {"entry_time_s": EPOCH_S - 9, "exit_time_s": EPOCH_S}
LEFT = {"entry_time_s": EPOCH_S + 100, "exit_time_s": EPOCH_S + 109}


def name(track: int, camera: str) -> str:
    return f"edge-1/{camera}/a1b2c3.7/{track}"


def marker(track: int) -> np.ndarray:
    """An embedding whose bytes are found again."""
    return np.random.default_rng(track).normal(size=(1, 16)).astype(np.float32)


def passage(track: int, camera: str, global_id: str) -> Passage:
    entry_s = EPOCH_S + track
    return Passage(
        name(track, camera), camera, "car", entry_s, entry_s + 10, "v1", marker(track), entry_s + 10,
        decided="unmatched", event="e", global_id=global_id,
    )  # fmt: skip


def match_row(to: str, from_: str, global_id: str) -> Row:
    message = golden_samples()["match"]
    ends = {
        "from_": message.from_.model_copy(update={"camera": from_.split("/")[1], "track": from_, **ENTERED}),
        "to": message.to.model_copy(update={"camera": to.split("/")[1], "track": to, **LEFT}),
    }
    said = message.model_copy(update={**ends, "global_id": global_id, "node": "edge-1"})
    return Row(f"event of {global_id}", "match", topic_of(said, "town"), said.model_dump_json(by_alias=True).encode())


@pytest.fixture
def config(tmp_path):
    """Vehicle 1 passed west (track 5) and then east (track 1); vehicle 2 passed east (track 2), vehicle 3 north (3)."""
    raw = {
        "site": "town", "node": "edge-1", "cameras": [{"id": one, "source": f"{one}.mp4"} for one in ("east", "west")],
        "detector": {"path": "d.onnx"}, "embedder": {"path": "e.onnx"}, "store": {"path": "node.db"},
        "collection": {"folder": "spool", "enabled": True},
    }  # fmt: skip
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(raw))
    config = load(tmp_path / "site.yaml")
    passages = [passage(5, "west", "g1"), passage(1, "east", "g1"), passage(2, "east", "g2"), passage(3, "north", "g3")]
    proxies: dict[str, dict[str, Proxy]] = {}
    for one in passages:
        proxies.setdefault(one.global_id, {})[one.camera] = Proxy(one.id, one.camera, "v1", one.embeddings)
    state = State(
        passages={one.id: one for one in passages if one.id != name(5, "west")},  # that one is remembered no more
        gallery={global_id: Identity(global_id, by_camera) for global_id, by_camera in proxies.items()},
        cameras={camera: CameraModel(camera) for camera in ("east", "west", "north")},
    )
    continues = Verdict(state="matched", camera="west", passage=name(5, "west"), posterior=0.9)
    with closing(Store(config.store.path)) as store:
        changes = {key: value for key, value in codec.changes(State(), state).items() if value is not None}
        rows = [match_row(name(1, "east"), name(5, "west"), "g1"), match_row(name(2, "east"), name(9, "south"), "g2")]
        store.commit({**changes, TRACKLETS: b"open: " + name(7, "east").encode()}, rows)
        letterhead = Letterhead("town", "edge-1", store.boot_id)
        store.put_aside([1], "no broker takes it", lambda shed: gap_row(letterhead, shed, 1.0))
        spool = Spool(
            config.collection.model_copy(update={"keep_free_bytes": 0}), ("edge-1", store.boot_id), Parts(),
            stored=store.part, time_s=store.time_s,
        )  # fmt: skip
        spool.add([crop(5, camera="west"), crop(2)])
        close_all(spool, lambda: (store.commit(spool.take()[0]), spool.tend()))
        spool.add([crop(1, verdict=continues), crop(3, camera="north")])
        store.commit(spool.take()[0])
        spool.close()
    return config


def holds(config, what: bytes) -> bool:
    files = [path for path in config.store.path.parent.rglob("*") if path.is_file() and path.name != "site.yaml"]
    return any(what in path.read_bytes() for path in files)


def traces(config, track: int, camera: str) -> bool:
    """Is there anything of this passage, in any file of the node?"""
    pixels = crop(track, camera=camera).jpeg
    return holds(config, name(track, camera).encode()) or holds(config, pixels)


def kept(config) -> set[str]:
    return {one.record.passage for path in config.collection.folder.glob("*.tar") for one in read_shard(path)}


@pytest.mark.parametrize("identity", ["g1", name(1, "east"), name(5, "west")])
def test_an_identity_leaves_no_trace(config, identity) -> None:
    assert traces(config, 1, "east")
    assert traces(config, 5, "west")
    receipt = forget(config, Selection(identity), EPOCH_S)
    assert not traces(config, 1, "east")
    assert not traces(config, 5, "west")
    assert traces(config, 2, "east")
    assert kept(config) == {name(2, "east"), name(3, "north")}
    assert (receipt.passages_in_memory, receipt.proxies_in_the_gallery, receipt.crops_in_the_spool) == (1, 2, 2)
    assert receipt.messages == {"set aside": 1}
    assert receipt.open_tracks == "untouched"
    assert json.loads(receipt.json())["selection"]["identity"] == identity
    with closing(Store(config.store.path)) as store:
        state = codec.load(Parts(store.load()))
        assert set(state.passages) == {name(2, "east"), name(3, "north")}
        assert set(state.gallery) == {"g2", "g3"}
        assert store.depth() == 2, "the other match, and the account of what was put aside"


def test_what_a_camera_saw(config) -> None:
    receipt = forget(config, Selection(camera="east"), EPOCH_S)
    for track in (1, 2, 7):
        assert not traces(config, track, "east")
    assert kept(config) == {name(5, "west"), name(3, "north")}
    assert receipt.open_tracks == "all of this node begin anew"
    assert (receipt.passages_in_memory, receipt.proxies_in_the_gallery, receipt.crops_in_the_spool) == (2, 2, 2)
    assert receipt.messages == {"match": 1, "set aside": 1}
    with closing(Store(config.store.path)) as store:
        (row,) = [one for one in store.pending(9) if b"forgotten on request" in one.payload]
        assert json.loads(row.payload)["counts"] == {"match": 1}


def test_what_was_seen_in_a_time(config) -> None:
    """Tracks 1 and 2 had left by then; tracks 3 and 5 had not."""
    receipt = forget(config, Selection(since_s=EPOCH_S + 12.5, until_s=EPOCH_S + 60), EPOCH_S)
    assert kept(config) == {name(1, "east"), name(2, "east")}
    assert not traces(config, 3, "north")
    assert receipt.passages_in_memory == 1
    assert receipt.messages == {"set aside": 1}, "matches speak of other times"


def test_nothing_is_forgotten_twice_and_a_stranger_not_at_all(config) -> None:
    forget(config, Selection("g1"), EPOCH_S)
    again = forget(config, Selection("g1"), EPOCH_S)
    stranger = forget(config, Selection("nobody"), EPOCH_S)
    for receipt in (again, stranger):
        assert (receipt.passages_in_memory, receipt.crops_in_the_spool, receipt.messages) == (0, 0, {})
    assert kept(config) == {name(2, "east"), name(3, "north")}


def test_killed_while_shards_are_replaced_nothing_else_is_lost(config, monkeypatch) -> None:
    """The process dies when a shard was put away, and the store did not hear of it."""
    commit, calls = Store.commit, []

    def dies(store, parts, rows=()):
        calls.append(parts)
        if any(key.startswith("collection/shard/") and value is None for key, value in parts.items()):
            raise KeyboardInterrupt
        commit(store, parts, rows)

    monkeypatch.setattr(Store, "commit", dies)
    with pytest.raises(KeyboardInterrupt):
        forget(config, Selection("g1"), EPOCH_S)
    monkeypatch.undo()
    assert forget(config, Selection("g1"), EPOCH_S).crops_in_the_spool == 2
    assert kept(config) == {name(2, "east"), name(3, "north")}
    assert not traces(config, 1, "east")


def test_a_node_that_runs_is_left_alone(config) -> None:
    with closing(Store(config.store.path)), pytest.raises(StoreError, match="stop that one first"):
        forget(config, Selection("g1"), EPOCH_S)
    assert traces(config, 1, "east")


def test_the_command_prints_the_receipt(config) -> None:
    command = [sys.executable, "-m", "edge_app", "forget", "--config", str(config.store.path.parent / "site.yaml")]
    done = subprocess.run([*command, "--identity", "g1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["crops_in_the_spool"] == 2
    assert receipt["passages"] == [name(1, "east"), name(5, "west")], "as `trainer forget` wants to hear it"
    assert any("trainer forget" in one for one in receipt["may_still_hold"])
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 78
    assert "edge-app forget: 1 mistake" in refused.stderr
