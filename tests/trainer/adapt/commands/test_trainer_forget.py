"""`trainer forget`: afterwards neither trainer nor store has a byte of it, the others stay, and it stays away."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_site import NOON_S, Site, crop, dying, picture
from typer.testing import CliRunner

pytest.importorskip("torch", reason="the command needs it")

from edge_app.contract.crop import Crop, Verdict
from edge_app.contract.envelope import rfc3339
from edge_app.contract.objects import open_store, sha256_of
from edge_app.contract.shard import read_shard
from trainer.adapt import rounds
from trainer.adapt.commands import command
from trainer.adapt.settings import DAY_S, load
from trainer.cli import app
from trainer.errors import ConfigurationError, WorldError

MODULES = ("trainer.adapt", "edge_app.contract.objects", "edge_app.contract.shard")


def name(track: int, camera: str = "east") -> str:
    return f"edge-1/{camera}/b.7/{track}"


def seen(track: int, camera: str = "east", **changes: Any) -> list[Crop]:
    """A passage of two crops."""
    return [crop(track, number, camera=camera, passage=name(track, camera), **changes) for number in range(2)]


def of(track: int) -> Verdict:
    return Verdict(state="matched", camera="west", passage=name(track, "west"), posterior=0.9)


class Town(Site):
    """Vehicle 1 passes west as track 1 and east as track 11; 2 and 3 are others. One crop comes twice."""

    def __init__(self, root: Path, own: str = "own", *, upload: bool = True) -> None:
        super().__init__(root)
        self.file = root / f"{own}.yaml"
        values = {"site": "town", "store": {"url": "store"}, "folder": own, "start": "start", "train": "train.yaml"}
        self.file.write_text(yaml.safe_dump({**values, "keep": {"days": 3650}, "watch": {"lease_s": 1}}))
        for needed in ("start", "train.yaml"):
            (root / needed).write_text("{}")
        self.settings = load(self.file)
        if upload:
            self.upload([*seen(1, "west"), *seen(2)])
            self.upload([*seen(11, verdict=of(1)), seen(2)[0], *seen(3, "north")])
            self.upload([*seen(11, verdict=of(1))[:1], crop(4)])

    def take_in(self) -> str:
        said: list[str] = []
        with command.unchecked(self.settings) as place:
            command.take_in(place, NOON_S + 3600, said.append)
        return "\n".join(said)

    def forget(self, *words: object) -> dict[str, Any]:
        """The command's receipt."""
        done = CliRunner().invoke(app, ["forget", str(self.file), *map(str, words)])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)

    def stored(self) -> set[str]:
        """Passages on the store."""
        return {one.record.passage for path in self.shards.glob("*.tar") for one in read_shard(path)}

    def holds(self, what: bytes) -> list[Path]:
        places = [self.settings.folder, self.objects]
        files = [path for place in places for path in place.rglob("*") if path.is_file()]
        return [path for path in files if what in path.read_bytes()]

    def traces(self, track: int, camera: str = "east") -> list[Path]:
        """Every file with the passage's name or pixels."""
        return [*self.holds(name(track, camera).encode()), *self.holds(picture(100 * track)[20:])]


@pytest.mark.parametrize("identity", [name(1, "west"), name(11)])
def test_an_identity_leaves_no_trace(tmp_path, identity):
    town = Town(tmp_path)
    receipt = town.forget("--identity", identity)
    assert not town.traces(1, "west")
    assert not town.traces(11)
    assert town.traces(2)
    assert town.stored() == {name(2), name(3, "north"), name(4)}
    assert (receipt["crops"], receipt["passages"], receipt["shards"], receipt["shards_on_the_store"]) == (4, 2, 3, 3)
    assert receipt["selection"]["identity"] == identity
    assert any("edge-app forget" in one for one in receipt["may_still_hold"])
    rows, shards, _ = town.state()
    assert {row[1] for row in rows} == town.stored(), "the index knows the others, each once"
    assert len(rows) == 5
    assert sorted(state for _, state, *_ in shards) == ["gone"] * 3 + ["taken"] * 3
    fresh = Town(tmp_path, "another", upload=False)
    assert "5 new crops" in fresh.take_in(), "nothing of the others is lost on the store"


def test_from_s3_too(tmp_path, s3_settings, seaweed):
    """A real S3 server holds no trace afterwards in any object, and what is sent once more goes at the next look."""
    town, settings = Town(tmp_path), s3_settings()
    paths, store = sorted(town.shards.glob("*.tar")), open_store(settings)
    content = {**yaml.safe_load(town.file.read_text()), "store": settings.model_dump(mode="json", exclude_none=True)}
    town.file.write_text(yaml.safe_dump({**content, "watch": {"lease_s": 60}}))
    town.settings = load(town.file)

    def send() -> None:
        for path in paths:
            store.put(f"town/crops/edge-1/{path.name}", path, sha256_of(path))

    def traces() -> list[str]:
        found = []
        for stored in store.list("town/"):
            store.get(stored.name, tmp_path / "object")
            content = (tmp_path / "object").read_bytes()
            found += [stored.name] * any(one in content for one in (name(11).encode(), picture(1100)[20:]))
        return found

    send()
    assert len(traces()) == 2
    receipt = town.forget("--identity", name(11))
    assert (receipt["crops"], receipt["shards"], receipt["shards_on_the_store"]) == (4, 3, 3)
    assert traces() == []
    assert not [
        path for path in town.settings.folder.rglob("*") if path.is_file() and name(11).encode() in path.read_bytes()
    ]
    send()
    assert "0 shards are past their days and gone, 3 from the store" in town.take_in()
    assert traces() == []
    assert len(store.list("town/crops/")) == 3, "the others, each under one name"


def test_what_a_camera_saw_in_a_time(tmp_path):
    """Tracks stay nine seconds; 2 and 4 are there at noon and five seconds, 11 is not."""
    town = Town(tmp_path)
    until = rfc3339(NOON_S + 5)
    looked = town.forget("--camera", "east", "--until", until, "--dry-run")
    assert (looked["crops"], looked["shards_on_the_store"]) == (3, None), "a dry run does not ask the store"
    assert town.traces(2), "a dry run erases nothing"
    assert not (town.objects / "town" / "forgotten").exists()
    receipt = town.forget("--camera", "east", "--until", until)
    assert {**receipt, "forgotten_at": "", "dry_run": ""} == {
        **looked, "forgotten_at": "", "dry_run": "", "shards_on_the_store": 3
    }  # fmt: skip
    assert town.stored() == {name(1, "west"), name(11), name(3, "north")}
    assert not town.traces(2)
    assert not town.traces(4)


def test_what_comes_late_or_twice_stays_away(tmp_path):
    """The erased shard itself, a crop of it in another one, and a passage that continues it and was not known."""
    town = Town(tmp_path)
    town.take_in()
    old = {path.name: path.read_bytes() for path in town.shards.iterdir()}
    town.forget("--identity", name(1, "west"))
    stays = town.stored()
    for shard, content in old.items():
        (town.shards / shard).write_bytes(content)
    town.upload([*seen(1, "west"), crop(5)])
    town.upload(seen(12, verdict=of(1)))
    said = town.take_in()
    assert "4 crops came once more that somebody had forgotten" in said
    assert town.stored() == stays | {name(5)}
    for track, camera in ((1, "west"), (11, "east"), (12, "east")):
        assert not town.traces(track, camera)
    fresh = Town(tmp_path, "another", upload=False)
    fresh.take_in()
    assert fresh.state()[0] == town.state()[0], "whoever comes later has the same"


def test_a_camera_without_an_end_is_forgotten_until_now(tmp_path):
    """What was asked for is the past: tomorrow's crops of the camera are taken in, late ones of yesterday are not,
    nor again what a clock that was ahead had dated tomorrow."""
    town, tomorrow_s = Town(tmp_path), time.time() + DAY_S
    moved = {"captured_at_s": tomorrow_s, "entered_at_s": tomorrow_s, "left_at_s": tomorrow_s + 9}
    ahead = town.upload([crop(7, **moved)])
    content = ahead.read_bytes()
    assert town.forget("--camera", "east")["crops"] == 6
    assert town.stored() == {name(1, "west"), name(3, "north")}
    ahead.write_bytes(content)
    town.upload([crop(7, **moved), crop(8, **moved), crop(9)])
    town.take_in()
    assert town.stored() == {name(1, "west"), name(3, "north"), name(8)}


def test_another_workstation_erases_it_too(tmp_path):
    town, other = Town(tmp_path), Town(tmp_path, "another", upload=False)
    other.take_in()
    town.forget("--identity", name(11))
    assert other.traces(11)
    assert "1 requests to forget are fulfilled here: 4 crops erased" in other.take_in()
    assert not other.traces(11)
    assert other.state() == town.state()


@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere_again_and_again_it_comes_to_the_same(tmp_path, seed):
    """kill -9 at a line drawn at random, three times in a row; then once to the end."""
    whole, broken = Town(tmp_path / "whole"), Town(tmp_path / "broken")
    for town in (whole, broken):
        town.take_in()
    whole.forget("--identity", name(11))
    chance, deaths = random.Random(seed), 0
    for _ in range(3):
        deaths += dying(lambda: broken.forget("--identity", name(11)), chance.randrange(200, 3500), MODULES)
        (broken.objects / "town" / "lock").unlink(missing_ok=True)  # as a person may who knows that its owner is dead
    broken.forget("--identity", name(11))
    assert deaths
    assert not broken.traces(1, "west")
    assert not broken.traces(11)
    assert broken.stored() == whole.stored()
    assert broken.state()[:2] == whole.state()[:2]


def test_rounds_lose_what_shows_it_and_the_receipt_names_what_learned_from_it(tmp_path):
    """Round 1 used it, 2 goes on from 1, 3 did not use it, 4 is under way with it."""
    town = Town(tmp_path)
    town.take_in()
    ids = dict(_rows(town, "SELECT passage, id FROM crops"))
    used, other = ids[name(11)], ids[name(2)]
    for number, (current, decision, number_used) in enumerate(
        (("", "accepted", used), ("models/000001.pt", "accepted", other), ("", "kept", other), ("", "", used)), start=1
    ):
        one = rounds.Round(number, NOON_S, 99, current, {}, done={"choose": {}}, decision=decision)
        rounds.save(town.settings.folder, one)
        folder = rounds.folder_of(town.settings.folder, number)
        track = name(11) if number_used == used else name(2)
        (folder / "crops.csv").write_text(f"path,camera,time,tracklet\npictures/{number_used}.jpg,east,0,{track}\n")
        (folder / "judged.csv").write_text("id,shard,key\n")
        (folder / "site.bundle").write_bytes(b"signed")
        for inner in ("report/index.html", "run/labels.npz", "pictures/1.jpg"):
            (folder / inner).parent.mkdir(exist_ok=True)
            (folder / inner).write_bytes(picture(1100) if number_used == used else b"others")
    receipt = town.forget("--identity", name(11))
    assert not town.traces(11)
    assert (receipt["rounds"], receipt["round_under_way"]) == ([1, 4], "begins anew")
    told = [one.partition(":")[0] for one in receipt["may_still_hold"] if one.startswith("round ")]
    assert told == ["round 1", "round 2"]
    first = rounds.folder_of(town.settings.folder, 1)
    assert sorted(path.name for path in first.iterdir()) == ["crops.csv", "judged.csv", "round.json", "site.bundle"]
    assert not rounds.folder_of(town.settings.folder, 4).exists()
    assert (rounds.folder_of(town.settings.folder, 3) / "report" / "index.html").is_file()
    again = town.forget("--identity", name(11))
    assert again["crops"] == 0
    assert [one.partition(":")[0] for one in again["may_still_hold"]][:2] == told


def test_a_shard_that_the_disk_has_changed_is_fetched_anew(tmp_path):
    town = Town(tmp_path)
    town.take_in()
    for path in (town.settings.folder / "shards").iterdir():
        path.write_bytes(path.read_bytes()[:900])
    assert town.forget("--identity", name(11))["crops"] == 4
    assert not town.traces(11)


def test_a_site_where_somebody_works_is_left_alone(tmp_path):
    town = Town(tmp_path)
    with command.seeker(town.settings).look(), pytest.raises(WorldError, match="at work there; nothing is erased"):
        town.forget("--camera", "east")
    assert not town.settings.folder.exists()
    assert len(town.stored()) == 5


def test_mistakes_are_said_at_once(tmp_path):
    town = Town(tmp_path)
    with pytest.raises(ConfigurationError, match="trainer forget: 2 mistakes"):
        town.forget("--identity", "x", "--since", "yesterday")


def _rows(town: Town, query: str) -> list[tuple[Any, ...]]:
    with command.unchecked(town.settings) as place:
        return place.index._rows(query)
