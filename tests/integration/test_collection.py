"""`edge-app run` and `check` with crops asked for: drawn cameras, both networks, shards that say what they are."""

import sqlite3
from collections import Counter

import cv2
import numpy as np
import pytest
from edge_commands import Group

from edge_app.collection.segment import State
from edge_app.contract.shard import read_shard
from edge_app.demo.play import Play, raw_config

SECONDS = 16.0


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    made = Group(tmp_path_factory.mktemp("collection"))
    yield made
    made.kill()


def site(group: Group, name: str, **collection: object):
    raw = raw_config(Play(seconds=SECONDS, fidelity="frames", speed=None), group.folder / f"{name}.db", None)
    raw["cameras"], raw["links"] = raw["cameras"][:2], raw["links"][:1]
    collection = {"enabled": True, "folder": str(group.folder / name), "keep_free_bytes": 0, **collection}
    return group.write(name, raw | {"collection": collection})


@pytest.fixture(scope="module")
def ran(group):
    path = site(group, "kept", control_share=0.3)
    group.start("run", "run", "--config", path)
    assert group["run"].code == 0, group["run"].error
    group.start("check", "check", "--config", path)
    group.start("nowhere", "check", "--config", site(group, "nowhere", folder=str(path / "spool")))
    return group


@pytest.mark.slow
def test_a_site_leaves_shards_that_say_what_they_are(ran):
    paths = sorted((ran.folder / "kept").iterdir())
    assert paths
    assert all(path.suffix == ".tar" for path in paths), paths
    crops = [crop for path in paths for crop in read_shard(path)]
    records = [crop.record for crop in crops]
    assert len({record.key for record in records}) == len(records) > 8  # how many depends on which passages are drawn
    assert {record.camera for record in records} >= {"gate", "market"}
    assert {record.verdict.state for record in records} <= {"matched", "unmatched"}
    for crop in crops:
        record, picture = crop.record, cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
        left, top, right, bottom = record.box
        assert abs(picture.shape[1] - (min(right, record.frame_px[0]) - max(left, 0))) < 2
        assert abs(picture.shape[0] - (min(bottom, record.frame_px[1]) - max(top, 0))) < 2
        assert record.entered_at_s <= record.captured_at_s <= record.left_at_s
        assert np.linalg.norm(crop.embedding.astype(float)) == pytest.approx(1.0, abs=0.01)
        assert (record.site, record.node, record.person) == ("town", "edge-1", "none")
        assert record.embedding_version
    of_passage = Counter(record.passage for record in records)
    views = {record.passage: (record.views, record.control) for record in records}
    assert all(n == views[name][0] for name, n in of_passage.items() if views[name][1]), "a control is kept whole"
    assert all(n <= 4 for name, n in of_passage.items() if not views[name][1])
    with sqlite3.connect(ran.folder / "kept.db") as store:
        stored = store.execute("SELECT value FROM parts WHERE key = 'collection/open'").fetchone()[0]
    assert State.read(stored).accepted == len(records)


@pytest.mark.slow
def test_check_says_what_would_be_kept(ran):
    assert ran["check"].code == 0, ran["check"].error
    (said,) = [line for line in ran["check"].out.splitlines() if line.startswith("collection: ")]
    assert "of a passage at most 4 crops, of 30% of them all; none in which a person is found" in said
    assert "kept holds 1 shards" in said
    assert "is not noticed" not in said, "this detector knows persons, though it is not asked for them"
    ran["nowhere"].assert_refused(74, f"collection.folder {ran.folder}/kept.yaml/spool")
