"""A page for every round, and nothing lost by it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")

from tiny_site import NOON_S, Site

from trainer.adapt import rounds
from trainer.adapt.page import reporting
from trainer.adapt.page.outcome import outcome_of
from trainer.adapt.rounds import Round
from trainer.adapt.settings import DAY_S

HEAD = "path,camera,time,tracklet\n"


def round_of(site: Site, number: int = 1, **values) -> tuple[Round, object]:
    """Two passages of which nothing was learned."""
    one = Round(
        number, NOON_S, 9, "", {}, done={"choose": {}, "cluster": {}}, reason="no two crops are alike", **values
    )
    rounds.save(site.settings.folder, one)
    folder = rounds.folder_of(site.settings.folder, number)
    rows = [f"pictures/{n}.jpg,east,{NOON_S + n},edge-1/east/b.7/{n}\n" for n in range(2)]
    (folder / "crops.csv").write_text(HEAD + "".join(rows))
    (folder / "judged.csv").write_text("id,shard,key,passage,camera,class_name,captured_s,entered_s,left_s\n")
    return one, folder


def test_a_page_that_cannot_be_made_is_said_and_stops_nothing(tmp_path):
    site, said = Site(tmp_path), []
    one, folder = round_of(site)
    (folder / "crops.csv").write_text("path,camera\nno number,east\n")
    reporting.write(site.settings, one, said.append)
    assert "its page could not be made: ValueError" in said[0]
    round_of(site)
    (folder / "report").write_text("a file in the way")
    reporting.write(site.settings, one, said.append)
    assert "its page could not be made" in said[1]
    assert one.reason == "no two crops are alike"


def test_the_page_goes_before_its_oldest_crop_is_past_its_days(tmp_path):
    """The round is young, the crops on its page are not."""
    site = Site(tmp_path)
    own = site.settings.folder
    one, folder = round_of(site, shown_from_s=NOON_S - 5 * DAY_S)
    reporting.write(site.settings, one, lambda _: None)
    one.shown_from_s = NOON_S - 5 * DAY_S
    rounds.close(own, one, "kept")
    rounds.clear(own, NOON_S - 6 * DAY_S)
    assert (folder / "report" / "index.html").is_file()
    rounds.clear(own, NOON_S - 4 * DAY_S)
    assert sorted(path.name for path in folder.iterdir()) == ["crops.csv", "judged.csv", "round.json"]
    rounds.clear(own, NOON_S + 1)
    assert [path.name for path in folder.iterdir()] == ["round.json"]


@pytest.mark.parametrize(
    ("done", "reason", "said"),
    [
        ({"judge": {"decision": "publish", "sentence": "the new model is better"}}, "", "A better model was learned"),
        ({"judge": {"decision": "publish", "purpose": "refresh"}}, "", "learned that does no harm"),
        ({"judge": {"decision": "refuse"}}, "drift", "The new model is not better"),
        ({"judge": {"decision": "not judged"}}, "few", "It could not be said"),
        ({"choose": {}}, "none of 0 crops", "No crops have come"),
        ({"choose": {}, "cluster": {}}, "one cluster", "These crops teach nothing"),
        ({"cluster": {}, "train": {}}, "no number", "These crops teach nothing"),
        ({"judge": {"decision": "publish"}, "export": {}}, "no precision", "no file of it keeps what it can"),
        ({}, "another process has decided round 4 since", "This round was given up"),
    ],
)
def test_every_end_of_a_round_has_its_words(done, reason, said):
    found = outcome_of(Round(1, NOON_S, 0, "", {}, done=done, reason=reason))
    assert said in found.sentence
    assert found.advice
    overtaken = outcome_of(Round(1, NOON_S, 0, "", {}, done=done, reason="others were faster", overtaken=True))
    assert "what that one decided stands" in overtaken.sentence
    assert overtaken.because == "Others were faster"
    assert reason.lower() in found.because.lower()
