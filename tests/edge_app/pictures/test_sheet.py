"""Which pairs are shown, and that a sheet is drawn of whatever there is."""

import cv2
import numpy as np
import pytest

from edge_app.associate.facts import End, Match
from edge_app.errors import StoreError
from edge_app.pictures.album import Album
from edge_app.pictures.sheet import Look, Pair, choose, contact_sheet, pairs_of
from edge_app.types import View


def pair(verdict=None, posterior=0.9, cameras=("gate", "market"), at_s=0.0, picture=True):
    image = np.full((60, 80, 3), 128, np.uint8) if picture else None
    first, second = Look(cameras[0], at_s, image), Look(cameras[1], at_s + 12.5, image)
    return Pair(first, second, "car", verdict, None if verdict == "missed" else posterior, "edge-1-7-3")


def test_mistakes_are_shown_but_never_crowd_out_the_rest():
    pairs = [pair("right", 0.99, at_s=n) for n in range(40)]
    pairs += [pair("wrong", at_s=n) for n in range(9)] + [pair("missed", at_s=n) for n in range(9)]
    chosen = choose(pairs, 24)
    assert len(chosen) == 24
    assert [p.verdict for p in chosen].count("wrong") == 9
    assert [p.verdict for p in chosen].count("missed") == 3
    assert [p.verdict for p in chosen].count("right") == 12


def test_mistakes_may_fill_the_room_that_nobody_else_needs():
    pairs = [pair("right")] * 2 + [pair("missed")] * 30
    assert [p.verdict for p in choose(pairs, 10)].count("missed") == 8


def test_every_link_gets_its_turn_and_the_least_certain_come_first():
    busy = [pair(posterior=0.5 + n / 100, cameras=("a", "b")) for n in range(20)]
    quiet = [pair(posterior=0.99, cameras=("c", "d"))]
    chosen = choose(busy + quiet, 4)
    assert [p.posterior for p in chosen] == [0.5, 0.51, 0.52, 0.99]


def test_pairs_with_pictures_are_preferred():
    assert all(p.first.picture is not None for p in choose([pair(picture=False), pair(), pair()], 2))


def test_pairs_of_matches_carry_pictures_times_and_verdicts():
    album = Album()
    album.add([View("n/a/1/1", "a", 5.0, np.array([0, 0, 9, 9], np.float32), 0.9, np.zeros((9, 9, 3), np.uint8))])
    match = Match(
        event_id="e", observed_at_s=30.0, state="confirmed", global_id="n-1-1", link="a--b",
        from_=End("a", "n/a/1/1", 6.0), to=End("b", "n/b/1/2", 20.0), class_name="van", transit_s=14.0,
        posterior=0.9, margin=1.0, runner_up=None, decision_delay_s=3.0, supersedes=None, embedding_version="v",
    )  # fmt: skip
    (found,) = pairs_of([match], album, {("n/a/1/1", "n/b/1/2"): "wrong"})
    assert found.transit_s == 14.0
    assert found.verdict == "wrong"
    assert found.first.picture is not None
    assert found.second.picture is None
    assert pairs_of([match], album)[0].verdict is None


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [pair()],
        [pair("right"), pair("wrong"), pair("missed", picture=False)] * 4,
    ],
    ids=["nothing", "no truth", "all kinds"],
)
def test_a_sheet_is_a_picture(pairs, tmp_path):
    contact_sheet(pairs, tmp_path / "matches.png", subtitle="a test")
    picture = cv2.imread(str(tmp_path / "matches.png"))
    assert picture.shape[1] > 2000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_a_sheet_grows_with_its_rows(tmp_path):
    contact_sheet([pair()] * 4, tmp_path / "one.png")
    contact_sheet([pair()] * 5, tmp_path / "two.png")
    assert cv2.imread(str(tmp_path / "two.png")).shape[0] > cv2.imread(str(tmp_path / "one.png")).shape[0]


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="folder"):
        contact_sheet([pair()], tmp_path / "nowhere" / "matches.png")
