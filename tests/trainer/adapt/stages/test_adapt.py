"""A whole adaptation of a tiny site: crops in, a decision out, whatever breaks it off."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")

import yaml
from children import Child
from tiny_crops import picture
from tiny_networks import small_onnx
from tiny_site import NOON_S, TRAINING, Site, crop, die_after, publish, site_file, without_charts

from trainer.adapt import rounds
from trainer.adapt.commands import by_hand, command
from trainer.adapt.crops import trained_on
from trainer.adapt.crops.index import Index
from trainer.adapt.hearing import anchor
from trainer.adapt.settings import SiteSettings, load
from trainer.errors import ConfigurationError


def vehicles(first: int, count: int, start_s: float = NOON_S, **changes: Any) -> list:
    """Each passes west, and east 60 seconds later, three crops each time."""
    crops = []
    for vehicle in range(first, first + count):
        for place, camera in enumerate(("west", "east")):
            generator = np.random.default_rng((vehicle, place))
            entered_s = start_s + 40 * (vehicle - first) + 60 * place
            for number in range(3):
                image = cv2.resize(picture(vehicle, place, generator), (32, 64), interpolation=cv2.INTER_NEAREST)
                values = {
                    "camera": camera,
                    "passage": f"edge-1/{camera}/b.7/{vehicle}",
                    "captured_at_s": entered_s + number,
                    "entered_at_s": entered_s,
                    "left_at_s": entered_s + 3,
                }
                pixels = cv2.imencode(".jpg", image)[1].tobytes()
                crops.append(crop(vehicle, number, pixels=pixels, **{**values, **changes}))
    return crops


def tiny(root: Path, **changes: Any) -> tuple[Site, SiteSettings]:
    """A site file with all it names, and its store."""
    site = Site(root)
    small_onnx(root / "start.onnx")
    return site, site_file(root, TRAINING, max_s=90, **changes)


def test_a_dry_run_says_what_would_be_done(tmp_path):
    site, settings = tiny(tmp_path, keep={"held_out": 0.4})
    site.upload(vehicles(1, 5))
    site.upload(vehicles(6, 5, NOON_S + 7200) + vehicles(20, 1, control=True))
    said: list[str] = []
    material = command.dry_run(settings, NOON_S, said.append)
    assert material.passages + material.judged_passages == 20
    assert material.crops == 3 * material.passages
    assert material.cameras == {"east": material.crops // 2, "west": material.crops // 2}
    text = "\n".join(said)
    assert "2 new shards of 2 objects; 66 new crops, 6 of them controls" in text
    assert f"would train on {material.crops} crops of {material.passages} passages" in text
    assert not (settings.folder / "rounds").exists()


def decision_of(settings: SiteSettings) -> str:
    one = rounds.latest(settings.folder)
    return one.decision if one else ""


def result(settings: SiteSettings) -> tuple[Any, ...]:
    """What must not depend on where it was broken off; the weights to the last bit."""
    import torch

    one = rounds.latest(settings.folder)
    assert one is not None
    files = sorted(path.name for path in rounds.folder_of(settings.folder, one.number).iterdir())
    model = settings.folder / "models" / f"{one.number:06d}.pt"
    weights = torch.load(model, weights_only=True)["weights"] if model.exists() else {}
    index = Index(settings.folder / "index.db")
    kept = index._rows("SELECT key FROM crops WHERE id IN (SELECT crop FROM reservoir) ORDER BY key")
    index.close()
    facts = {name: value for name, value in one.done.items() if name != "cluster"}  # it says how long it took
    for name in ("serial", "bytes"):  # the time, and how many digits it is written with
        facts.get("export", {}).pop(name, None)
    return (
        one.decision,
        one.reason,
        facts,
        files,
        {name: value.numpy().tolist() for name, value in weights.items()},
        kept,
        anchor.read(settings.folder),
    )


def adapted(settings: SiteSettings) -> tuple[int, str]:
    """`trainer adapt --once` without the command line: how many sites failed, and what was said."""
    said: list[str] = []
    return command.once([settings], said.append), "\n".join(said)


def page_of_round(settings: SiteSettings) -> str:
    """Of the last round."""
    return (settings.folder / "rounds" / "000001" / "report" / "index.html").read_text(encoding="utf-8")


def test_too_few_to_judge_keeps_the_model_and_says_so(tmp_path, monkeypatch):
    without_charts(monkeypatch.setattr)
    site, settings = tiny(tmp_path, keep={"held_out": 0.4})
    for hour in range(4):
        site.upload(vehicles(10 * hour, 4, NOON_S + 3600 * hour))
    failed, said = adapted(settings)
    assert (failed, decision_of(settings)) == (0, "kept")
    assert "cannot be judged: placebo lift" in said
    assert "expected at least 300 in 6" in said
    assert not (settings.folder / "current.json").exists()
    tables = {"anchor.csv", "crops.csv", "judged.csv"}
    left = {path.name for path in (settings.folder / "rounds" / "000001").iterdir()}
    assert left == {*tables, "before.npz", "report", "round.json", "run"}  # no picture, no bundle
    assert not (settings.folder / "rounds" / "000001" / "run" / "report").exists(), "the page alone shows crops"
    page = page_of_round(settings)
    assert "It could not be said whether the new model is better" in page
    assert "expected at least 300 in 6" in page
    assert page.count("data:image/jpeg") > 8
    assert "pairs of passages were together before, apart now" in page
    told = json.loads((site.objects / "town" / "adapted").read_text())
    assert (told["round"], told["model"], told["seen"]) == (1, None, {"edge-1-b.7": 3})
    trained_hours_never_judge(settings, told)


def trained_hours_never_judge(settings, told):
    """Of four hours some were trained on. Now more are held out: none of those, here and where the store alone says."""
    spans = trained_on.read(settings.folder)
    assert [list(span) for span in spans] == told["trained"] != []
    more = settings.model_copy(update={"keep": settings.keep.model_copy(update={"held_out": 0.99})})
    hours = int(sum(end_s - begin_s for begin_s, end_s in spans) / 3600)
    rows = (settings.folder / "rounds" / "000001" / "judged.csv").read_text().splitlines()
    for folder in (settings.folder, settings.folder.parent / "another workstation"):
        said: list[str] = []
        more = more.model_copy(update={"folder": folder})
        material = command.dry_run(more, NOON_S, said.append)
        assert f"{hours} hours would be held out, but were trained on before" in "\n".join(said)
        assert material.judged_crops == len(rows) - 1, "what judged before judges still, and nothing else"
        said.clear()
        index = Index(folder / "index.db")
        by_hand.lay_hearing(more, index, folder / "hearing", said.append)
        index.close()
        assert f"judged on {len(rows) - 1} crops" in "\n".join(said), "and by hand"


def test_a_site_without_crops_keeps_its_model(tmp_path):
    _, settings = tiny(tmp_path)
    failed, said = adapted(settings)
    assert (failed, decision_of(settings)) == (0, "kept")
    assert "none of 0 crops may be trained on" in said
    assert "see whether the nodes keep crops" in page_of_round(settings).lower()


def test_the_site_of_the_repository_is_one():
    from trainer.adapt.stages import training

    settings = load(Path(__file__).parents[4] / "configs" / "adapt" / "town.yaml")
    training.check(settings)
    assert len(settings.links) == 5


def test_another_process_is_waited_for_and_not_disturbed(tmp_path):
    """As long as its owner renews the lease, `--once` ends without having touched the site."""
    site, settings = tiny(tmp_path, watch={"lease_s": 1})
    site.upload(vehicles(1, 2))
    with command.seeker(settings).look():
        failed, said = adapted(settings)
    assert failed == 1
    assert said.count("is at work there") == 1
    assert not settings.folder.exists()


def test_a_watch_waits_for_enough_and_takes_the_free_site(tmp_path):
    """Of two sites one is another's; the other one has too few new passages, until it has enough."""
    site, settings = tiny(tmp_path / "one", watch={"passages": 6, "every_s": 0.01})
    _, other = tiny(tmp_path / "two", site="city")
    site.upload(vehicles(1, 2))
    said: list[str] = []

    class UntilDecided:
        def is_set(self):
            return decision_of(settings) == "kept" or len(said) > 60

        def wait(self, _):
            if any("4 new passages, waits for 6" in line for line in said) and len(list(site.shards.iterdir())) == 1:
                site.upload(vehicles(10, 1, start_s=NOON_S + 60, control=True) + vehicles(11, 1, start_s=NOON_S + 60))

    with command.seeker(other).look():
        command.watch([other, settings], said.append, UntilDecided())
    assert decision_of(settings) == "kept"
    assert not other.folder.exists()
    assert sum("is at work there" in line for line in said) == 1


def test_what_another_process_decided_is_taken_over(tmp_path):
    """Two workstations, one site: the second fetches the first one's model and gives up its own round."""
    from trainer.adapt.told import shared

    site, settings = tiny(tmp_path)
    site.upload(vehicles(1, 2))
    own = settings.folder
    stale = rounds.Round(1, NOON_S, 0, "", {}, done={"choose": {"crops": 12}, "cluster": {}, "train": {}})
    rounds.save(own, stale)
    (own / "rounds" / "000001" / "pictures").mkdir()
    (tmp_path / "model.pt").write_bytes(b"of the first")
    with command.opened(settings) as here:
        name, sha256 = shared.send_model(here.store, "town", 3, tmp_path / "model.pt")
        best = {"best": name, "best_sha256": sha256, "best_round": 2, "anchor": (7, 9)}
        best["trained"] = ((NOON_S, NOON_S + 3600),)
        told = shared.Adapted(round=4, model=name, sha256=sha256, model_round=3, seen={"edge-1-b.7": 0}, **best)
        shared.write(here.store, "town", told, None)
        assert shared.read(here.store, "town")[0] == told
        assert command.catch_up(here, told, (said := list[str]()).append) is None
        assert shared.new_shards(told, [path.name for path in site.shards.iterdir()]) == []
    assert sorted(path.name for path in (own / "rounds" / "000001").iterdir()) == ["report", "round.json"]
    assert "This round was broken off" in (page := page_of_round(settings))
    assert "teach nothing" not in page
    assert "Another process has decided round 4 since" in page
    assert said[0] == "town: round 1 is given up: another process has decided round 4 since"
    assert "report/index.html" in said[1]
    assert rounds.latest(own).reason == "another process has decided round 4 since"
    assert (own / rounds.current_model(own)).read_bytes() == b"of the first"
    assert anchor.read(own) == anchor.Anchor((7, 9), 2)
    assert anchor.best_model(own, settings.start, anchor.read(own)).read_bytes() == b"of the first"
    assert trained_on.read(own) == ((NOON_S, NOON_S + 3600),), "no hour that the first has trained on judges here"


def test_mistakes_of_all_sites_are_said_at_once(tmp_path):
    from trainer.adapt.settings import load_all

    tiny(tmp_path)
    content = yaml.safe_load((tmp_path / "site.yaml").read_text())
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**content, "strat": "x", "keep": {"days": 0}}))
    (tmp_path / "same.yaml").write_text(yaml.safe_dump({**content, "site": "city"}))
    with pytest.raises(ConfigurationError) as error:
        load_all([tmp_path / name for name in ("site.yaml", "bad.yaml", "same.yaml")])
    text = str(error.value)
    assert "strat" in text
    assert "start" in text  # the nearest key
    assert "keep.days" in text
    assert "two sites share it" in text


@pytest.mark.parametrize(
    "deaths",
    [
        ("train", "report", "send_model"),
        pytest.param(("choose", "cluster", "judge", "export", "accept", "write"), marks=pytest.mark.long),
    ],
)
def test_killed_at_every_stage_it_ends_as_it_would_have(tmp_path, deaths):
    """kill -9 after the work of a stage, before its note: the same decision, weights, reservoir and bundle."""
    results, told = [], []
    for name in ("whole", "broken"):
        root = tmp_path / name
        site, settings = tiny(root, keep={"held_out": 0.3, "reservoir": 20})
        for hour in range(3):
            site.upload(vehicles(10 * hour, 4, NOON_S + 3600 * hour))
        for stage in deaths if name == "broken" else ():
            dying = Child(root / f"said.{stage}", "adapt", root / "site.yaml", prepare=partial(die_after, stage))
            assert dying.wait() == -9, dying.text()
            (site.objects / "town" / "lock").unlink()  # as a person may who knows that its owner is dead
        if name == "whole" or "write" not in deaths:  # all is told then: one more would be the next round
            ended = Child(root / "said", "adapt", root / "site.yaml", prepare=publish)
            assert ended.wait() == 0, ended.text()
        results.append(result(settings))
        assert "A better model was learned" in page_of_round(settings)
        assert "data:image/jpeg" in page_of_round(settings)
        told.append(json.loads((site.objects / "town" / "adapted").read_text()))
    assert results[0][0] == "accepted"
    assert results[0] == results[1]
    assert told[0]["model"].startswith("town/models/000001-")
    assert {**told[0], "model": "", "sha256": ""} == {**told[1], "model": "", "sha256": ""}
