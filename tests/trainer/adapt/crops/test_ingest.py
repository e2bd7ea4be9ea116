"""Every accepted crop exactly once, whatever the store, the shards and the power do."""

from __future__ import annotations

import random
import shutil
import stat
from pathlib import Path

import pytest
from tiny_site import NOON_S, Site, crop, dying, picture

from edge_app.contract.errors import ObjectStoreAwayError
from edge_app.contract.objects import open_store, sha256_of
from edge_app.contract.shard import ShardName, write_shard
from trainer.adapt.commands.command import lines_of
from trainer.adapt.crops import index as index_module
from trainer.adapt.crops.index import Index
from trainer.adapt.crops.ingest import own_folder
from trainer.adapt.settings import DAY_S
from trainer.errors import WorldError

MODULES = ("trainer.adapt", "edge_app.contract.objects", "edge_app.contract.shard", "edge_app.contract.archive")


def three_shards(site: Site) -> list[Path]:
    """Eight passages of three crops; the third shard brings two crops again, and a picture under another key."""
    crops = [crop(track, number, control=track == 3) for track in range(8) for number in range(3)]
    repeated = [*crops[9:11], crop(50, pixels=crops[0].jpeg), *crops[18:]]
    return [site.upload(part) for part in (crops[:9], crops[9:18], repeated)]


def test_every_crop_of_every_shard_is_accounted_for(tmp_path):
    site = Site(tmp_path)
    three_shards(site)
    result = site.ingest()
    assert (result.listed, result.taken, result.new, result.controls) == (3, 3, 24, 3)
    assert (result.again, result.same, result.near, result.bad) == (2, 1, 0, 0)
    again = site.ingest()
    assert (again.listed, again.taken, again.new, again.again) == (3, 0, 0, 0)
    index = Index(site.settings.folder / "index.db")
    facts = index.facts()
    index.close()
    assert (facts.shards, facts.crops, facts.passages, facts.uses) == (3, 25, 9, {"same": 1, "yes": 24})
    assert (facts.first_s, facts.last_s, facts.cameras) == (NOON_S, NOON_S + 50, {"east": 25})
    modes = {stat.S_IMODE(path.stat().st_mode) for path in site.settings.folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(site.settings.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_again_and_again_it_comes_to_the_same(tmp_path, seed):
    """kill -9 at a line drawn at random, four times in a row; then once to the end."""
    whole, broken = Site(tmp_path / "whole"), Site(tmp_path / "broken")
    for site in (whole, broken):
        three_shards(site)
    whole.ingest()
    chance, deaths = random.Random(seed), 0
    for _ in range(4):
        deaths += dying(broken.ingest, chance.randrange(1, 1500), MODULES)
    broken.ingest()
    assert deaths
    assert whole.state() == broken.state()


def test_a_shard_cut_short_is_not_taken_and_named(tmp_path):
    """Under its whole name: half of it, one byte of it changed, another's shard under its name, a stranger's site."""
    site = Site(tmp_path)
    good, half, changed, other = (site.upload([crop(track)]) for track in range(4))
    half.write_bytes(half.read_bytes()[:700])
    content = bytearray(changed.read_bytes())
    content[600] ^= 1
    changed.write_bytes(content)
    shutil.copy(good, other)
    stranger = site.upload([crop(9, site="city")])
    (site.shards / f".{good.name}.part").write_bytes(b"on its way")
    (site.shards / "notes.txt").write_text("hello")
    result = site.ingest()
    assert (result.taken, result.new, result.foreign) == (1, 1, ["town/crops/edge-1/notes.txt"])
    reasons = dict(result.aside)
    assert set(reasons) == {half.name, changed.name, other.name, stranger.name}
    assert all("cut short or changed" in reasons[path.name] for path in (half, changed, other))
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    assert "a crop of city/edge-1, expected town/edge-1" in reasons[stranger.name]
    again = site.ingest()
    assert (again.taken, again.aside, again.later) == (0, [], [])


def test_a_way_that_damages_is_not_the_shard_s_fault(tmp_path):
    """One byte is flipped on the way, each time another one: the shard is tried again next time."""
    site = Site(tmp_path)
    path = site.upload([crop(1)])
    store, chance = open_store(site.settings.store), random.Random(0)

    class Flipping:
        list = store.list

        def get(self, name, target, sha256, limit_bytes):
            store.get(name, target, sha256, limit_bytes)
            content = bytearray(target.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            target.write_bytes(content)
            return ""

    for _ in range(2):
        result = site.ingest(store=Flipping())
        assert [name for name, _ in result.later] == [path.name]
        assert (result.taken, result.aside) == (0, [])
    assert site.ingest().new == 1


def test_pictures_that_are_nearly_the_same_are_one_the_best(tmp_path):
    """Within a passage, also over two shards; another passage may look the same."""
    site = Site(tmp_path)
    image = picture(5)
    lighter = bytes(image[:-2]) + b"\x00" + image[-2:]  # other bytes, the same picture
    site.upload([crop(1, 0, pixels=image, quality=0.2), crop(1, 1, pixels=lighter, quality=0.9), crop(1, 2)])
    first = site.ingest()
    assert (first.new, first.near, first.same) == (2, 1, 0)
    site.upload([crop(1, 3, pixels=image + b"\x00"), crop(2, 0, pixels=image + b"\x01")])
    second = site.ingest()
    assert (second.new, second.near) == (1, 1)
    index = Index(site.settings.folder / "index.db")
    uses = dict(index._rows("SELECT key, use FROM crops"))
    index.close()
    assert [uses[crop(1, number).record.key] for number in range(4)] == ["near", "yes", "yes", "near"]


def test_two_passages_of_one_name_are_not_joined(tmp_path):
    """The first one has the name, in the same shard and in later ones; crops of the second are counted and said."""
    site, other = Site(tmp_path), {"entered_at_s": NOON_S + 900, "left_at_s": NOON_S + 909}
    later = {**other, "captured_at_s": NOON_S + 901}
    site.upload([crop(1), crop(1, 1), crop(1, 2, **later)])
    site.upload([crop(1, 0, pixels=picture(9), **later), crop(1, 3, **later), crop(1, 4), crop(1, 5, camera="west")])
    result = site.ingest()
    assert (result.new, result.again, result.unlike) == (3, 0, 4)
    assert "4 crops are of another passage under a name that was there already" in "\n".join(lines_of(result))
    index = Index(site.settings.folder / "index.db")
    known, passages = index.usable(index.newest())
    index.close()
    assert len(passages) == 1
    assert set(known.left_s) == {NOON_S + 10}


def test_a_jpeg_that_no_decoder_reads_is_counted(tmp_path):
    site = Site(tmp_path)
    site.upload([crop(1, pixels=picture(1)[:200]), crop(2)])
    result = site.ingest()
    assert (result.new, result.bad) == (1, 1)


def test_nothing_is_kept_longer_than_its_days(tmp_path):
    """By the day it was taken or by the day it came, whichever is earlier; here and on the store; and never again."""
    site = Site(tmp_path, days=2)
    site.upload([crop(1, captured_at_s=NOON_S + 9 * DAY_S)])  # a clock that is wrong
    site.upload([crop(2, captured_at_s=NOON_S + DAY_S)])
    assert site.ingest(NOON_S + DAY_S).new == 2
    assert site.ingest(NOON_S + 2.5 * DAY_S).expired == []
    result = site.ingest(NOON_S + 3.5 * DAY_S)
    assert len(result.expired) == 2
    assert list((site.settings.folder / "shards").iterdir()) == []
    assert site.state()[0] == []
    again = site.ingest(NOON_S + 3.6 * DAY_S)
    assert (again.listed, again.deleted, again.taken) == (2, 2, 0)
    assert list(site.shards.iterdir()) == []


def test_one_process_at_a_time(tmp_path):
    site = Site(tmp_path)
    with own_folder(site.settings), pytest.raises(WorldError, match="another process works there"):
        site.ingest()


def test_many_keys_are_looked_up_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "AT_ONCE", 7)
    site = Site(tmp_path)
    path = write_shard(site.shards, "edge-1", "b.7", 500, [crop(track) for track in range(30)])
    assert ShardName.parse(path.name).number == 500
    assert site.ingest().new == 30
    write_shard(site.shards, "edge-1", "b.7", 501, [crop(track) for track in range(1, 31)])
    result = site.ingest()
    assert (result.new, result.again) == (1, 29)


def test_from_s3_also_when_it_was_away(tmp_path, s3_settings, seaweed):
    """A store that does not answer is an error that says so; what came before it stays, the rest comes next time."""
    site = Site(tmp_path)
    paths = three_shards(site)
    site.settings = site.settings.model_copy(update={"store": s3_settings(silent_s=1.0)})
    store = open_store(site.settings.store)
    for path in paths[:2]:
        store.put(f"town/crops/edge-1/{path.name}", path, sha256_of(path))
    assert site.ingest().new == 18
    store.put(f"town/crops/edge-1/{paths[2].name}", paths[2], sha256_of(paths[2]))
    seaweed.suspend()
    try:
        with pytest.raises(ObjectStoreAwayError):
            site.ingest()
    finally:
        seaweed.resume()
    result = site.ingest()
    assert (result.taken, result.new, result.again, result.same) == (1, 6, 2, 1)
