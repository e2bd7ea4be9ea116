"""`edge-app run` on simulated cameras sends its crops to a store; killed in the middle, it sends each of them once."""

import json
import os
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml
from tiny_shard import crop

from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import Spool
from edge_app.contract.objects import ObjectStoreSettings, open_store
from edge_app.contract.shard import read_shard
from edge_app.demo.play import Play, raw_config
from edge_app.store.parts import Parts
from edge_app.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 15.0


@pytest.fixture
def site(tmp_path):
    """`site(store)` writes a site that sends there; its path."""

    def write(store: dict) -> str:
        raw = raw_config(Play("grid-2", 7, 0.2, SECONDS, fidelity="frames"), tmp_path / "node.db", None)
        raw["ticks"]["speed"] = None
        raw["collection"] = {"enabled": True, "folder": str(tmp_path / "spool"), "shard_s": 1.0, "keep_free_bytes": 0}
        raw["upload"] = {"store": store, "audit": str(tmp_path / "uploads.jsonl"), "away_min_s": 0.2}
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(raw))
        return str(tmp_path / "site.yaml")

    return write


def start(*arguments):
    command = [sys.executable, "-m", "edge_app", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process):
    said, _ = process.communicate(timeout=200)
    return process.returncode, said


def arrived(settings, tmp_path):
    """Key of a crop → how often it is in the store."""
    store, keys = open_store(settings), Counter()
    for stored in store.list():
        path = tmp_path / stored.name.rpartition("/")[2]
        keys.update(one.record.key for one in read_shard(path, store.get(stored.name, path)))
    return keys


def audited(tmp_path):
    return [json.loads(line) for line in (tmp_path / "uploads.jsonl").read_text().splitlines()]


def test_crops_of_a_node_that_is_killed_are_in_the_store_once(tmp_path, site, s3_settings):
    config = site({**s3_settings().model_dump(exclude_none=True)})
    node = start("run", "-c", config)
    until_s = time.monotonic() + 120
    while not (tmp_path / "uploads.jsonl").exists():
        assert time.monotonic() < until_s
        assert node.poll() is None, ended(node)
        time.sleep(0.02)
    node.kill()
    ended(node)
    code, said = ended(start("run", "-c", config))
    assert code == 0, said
    keys = arrived(s3_settings(), tmp_path)
    assert len(keys) > 3
    assert set(keys.values()) == {1}
    assert [name for name in os.listdir(tmp_path / "spool") if name.endswith((".tar", ".open"))] == []
    assert {line["event"] for line in audited(tmp_path)} <= {"sent", "was there"}


def fill_spool(tmp_path, shards):
    """As a node that ran leaves it; the last crops are not in a closed shard yet."""
    store = Store(tmp_path / "node.db")
    settings = CollectionSettings(enabled=True, folder=tmp_path / "spool", keep_free_bytes=0)
    owner, parts = ("edge-1", store.boot_id), Parts(store.load())
    spool = Spool(settings, owner, parts, stored=store.part, time_s=store.time_s)
    for track in range(shards):
        spool.seal()
        spool.add([crop(track, number) for number in range(3)])
        store.commit(spool.take()[0])
        spool.tend()
    spool.close()
    store.close()


def test_what_waits_is_sent_by_a_command_once_the_store_is_there(tmp_path, site):
    folder = tmp_path / "store"
    config = site({"url": str(folder)})
    fill_spool(tmp_path, shards=3)
    code, said = ended(start("upload", "-c", config))
    assert code == 69, said
    assert "no such folder" in said
    folder.mkdir()
    code, said = ended(start("upload", "-c", config, "--now"))
    assert code == 0, said
    assert "3 shards sent" in said
    assert arrived(ObjectStoreSettings(url=str(folder)), tmp_path) == {
        crop(track, number).record.key: 1 for track in range(3) for number in range(3)
    }
    assert os.listdir(tmp_path / "spool") == []


def test_check_asks_the_store_and_says_what_is_wrong(tmp_path, site):
    config = site({"url": str(tmp_path / "store")})
    strict, lenient = start("check", "-c", config), start("check", "-c", config, "--lenient")
    code, said = ended(strict)
    assert code == 69, said
    assert "upload: " in said
    assert "no such folder; make it, or mount" in said
    code, said = ended(lenient)
    assert code == 0, said
    assert "upload: AWAY" in said
    (tmp_path / "store").mkdir()
    code, said = ended(start("check", "-c", config))
    assert code == 0, said
    assert "put, confirmed and deleted grid-2/crops/edge-1/check-" in said
    assert list((tmp_path / "store").rglob("check-*")) == []
