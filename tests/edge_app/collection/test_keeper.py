"""What becomes of every view: persons, verdicts, what is held and for how long, and an account without holes."""

import cv2
import numpy as np
import pytest
from tiny_passages import BOX, START_S, match, name, tracklet, unmatched, view

from edge_app.collection.keeper import LEDGER, Keeper
from edge_app.collection.pixels import Look, look_of, without
from edge_app.collection.policy import is_control
from edge_app.collection.settings import CollectionSettings
from edge_app.collection.spool import Spool
from edge_app.contract.crop import CropRecord
from edge_app.contract.shard import read_shard
from edge_app.store.parts import Parts

CHOSEN = [track for track in range(1, 400) if not is_control(name(track), "town", 0.1)]
CONTROLS = [track for track in range(1, 400) if is_control(name(track), "town", 0.1)]
PERSON = (60.0, 30.0, 90.0, 60.0)  # reaches into the crop's right side


@pytest.fixture
def made(tmp_path):
    """`made(persons="blur", …)`: a keeper on a spool whose store takes everything at once."""
    on_disk, spools = {}, []

    def make(**settings):
        settings = CollectionSettings(enabled=True, folder=tmp_path / "spool", keep_free_bytes=0, **settings)
        while spools:
            spools.pop().close()
        parts = Parts({key: value for key, value in on_disk.items() if value is not None})
        spool = Spool(settings, ("edge-1", "1"), parts, stored=on_disk.get, time_s=lambda: 0.0)
        spools.append(spool)
        return Keeper(settings, "town", "edge-1", spool, parts)

    def records(keeper) -> list[CropRecord]:
        keeper.flush()
        spool = spools[-1]
        for _ in range(2):
            spool.seal()
            on_disk.update({**spool.take()[0], **keeper.stored()})
            spool.tend()
        return [one.record for shard in spool.closed() for one in read_shard(shard.path)]

    make.records = records
    yield make
    for spool in spools:
        spool.close()


def pass_by(keeper, track, fact=unmatched, *, views=3, class_name="car", **options) -> None:
    for number in range(views):
        keeper.see(view(track, number, **options))
    keeper.over(tracklet(track, class_name=class_name), 0.0)
    if fact is not None:
        keeper.hear(fact(track), 0.0)


def test_a_record_says_what_is_known(made) -> None:
    keeper = made()
    pass_by(keeper, CHOSEN[0], match)
    first = made.records(keeper)[0]
    expected = {
        "site": "town", "node": "edge-1", "camera": "east", "passage": name(CHOSEN[0]), "class_name": "car",
        "captured_at_s": START_S + 10 * CHOSEN[0], "frame_px": (640, 360), "score": 0.9, "quality": 0.8,
        "embedding_version": "v1", "entered_at_s": START_S + 10 * CHOSEN[0], "control": False, "person": "none",
        "verdict": {"state": "matched", "camera": "west", "passage": "edge-1/west/1/5", "posterior": 0.8,
                    "runner_up": pytest.approx(0.2), "similarity": 0.7}, "views": 3,
    }  # fmt: skip
    assert {key: first.model_dump()[key] for key in expected} == expected
    np.testing.assert_allclose(first.box, BOX)


def test_views_wait_for_the_verdict(made) -> None:
    keeper = made()
    pass_by(keeper, CHOSEN[0], lambda track: match(track, "provisional"))
    assert made.records(keeper) == []
    assert keeper.hold.looks == 3
    keeper.hear(unmatched(CHOSEN[0]), 0.0)
    keeper.hear(unmatched(CHOSEN[0]), 0.0)  # said again after a restart
    assert [one.verdict.state for one in made.records(keeper)] == ["unmatched"] * 3
    assert keeper.hold.looks == 0


def test_who_waits_too_long_is_kept_as_undecided(made) -> None:
    keeper = made(hold_s=60)
    pass_by(keeper, CHOSEN[0], None)
    keeper.tidy(60.0, 0.0)
    assert keeper.hold.looks == 3
    keeper.tidy(61.0, 0.0)
    assert [one.verdict.state for one in made.records(keeper)] == ["undecided"] * 3


def test_memory_is_bounded_and_what_is_over_is_saved_first(made) -> None:
    keeper = made(hold_bytes=1_000_000, daily_bytes=100_000_000)
    for number in range(40):
        keeper.see(view(1000, number))  # still on screen
    for track in CHOSEN[:200]:
        pass_by(keeper, track, None, views=2)
        keeper.tidy(0.0, 0.0)
        assert keeper.hold._bytes <= 1_000_000
    assert keeper.counters["crops_over_memory"] == 0
    assert len(made.records(keeper)) > 0
    for track in range(2000, 2400):
        keeper.see(view(track))
        keeper.tidy(0.0, 0.0)
    lost = keeper.counters["crops_over_memory"]
    assert lost >= 40, "then the oldest of those still on screen"
    for number in range(70):
        keeper.see(view(3000, number))
    assert keeper.counters["crops_over_memory"] == lost + 6, "of one passage at most 64"


def test_what_never_became_a_passage_is_forgotten(made) -> None:
    keeper = made()
    keeper.see(view(1))
    keeper.see(view(2))
    pass_by(keeper, CHOSEN[9], None)
    keeper.tidy(0.0, 0.0, still_open={name(2)})
    assert keeper.counters["crops_of_noise"] == 1
    assert keeper.hold.looks == 4


@pytest.mark.parametrize(
    ("persons", "kept", "left_out", "said"),
    [("never", 2, 4, {"none"}), ("blur", 3, 3, {"none", "blurred"}), ("keep", 6, 0, {"none", "kept"})],
)
def test_persons(made, persons, kept, left_out, said) -> None:
    """A car beside which somebody stands in one of three views, and somebody who walks."""
    keeper = made(persons=persons)
    car, walker = CHOSEN[0], CHOSEN[1]
    for number in range(3):
        keeper.see(view(car, number, persons=[PERSON] if number == 1 else ()))
        keeper.see(view(walker, number, persons=[BOX]))
    keeper.over(tracklet(car), 0.0)
    keeper.over(tracklet(walker, class_name="person"), 0.0)
    for track in (car, walker):
        keeper.hear(unmatched(track), 0.0)
    records = made.records(keeper)
    assert (len(records), {one.person for one in records}) == (kept, said)
    assert keeper.counters["crops_left_out_person"] == left_out
    assert all(one.person == "kept" for one in records if one.class_name == "person")


def test_a_person_is_made_unrecognisable_and_nothing_else_is_touched() -> None:
    rng = np.random.default_rng(0)
    crop = cv2.resize(rng.integers(0, 256, (48, 64, 3), np.uint8), (64, 48))
    before = crop.copy()
    blurred = without(crop, BOX, np.array([PERSON], np.float32))
    assert np.array_equal(crop, before), "others look at these pixels"
    inside = np.zeros((48, 64), bool)
    inside[10:40, 50:64] = True  # the crop begins at 10, 20
    assert np.array_equal(blurred[~inside], before[~inside])
    assert len(np.unique(blurred[inside], axis=0)) <= 18
    outside = np.array([[500, 500, 600, 600], [-50, -50, -1, -1]], np.float32)
    assert np.array_equal(without(crop, BOX, outside), before)
    cut_off = np.array([-8.0, -5.0, 56.0, 43.0], np.float32)  # its crop begins at 0, 0
    assert np.array_equal(without(crop, cut_off, np.array([[20, 0, 30, 9]], np.float32))[9:], before[9:])


def test_a_view_as_it_may_be_kept() -> None:
    look = look_of(view(1), "never", 90)
    assert isinstance(look, Look)
    decoded = cv2.imdecode(np.frombuffer(look.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 64, 3)
    assert look.embedding.dtype == np.float16
    assert look_of(view(1, persons=[PERSON]), "never", 90) == "person"
    for crop in (None, np.zeros((0, 5, 3), np.uint8), np.zeros((5000, 5000, 3), np.uint8)):
        strange = view(1)
        object.__setattr__(strange, "crop", crop)
        assert look_of(strange, "never", 90) == "unfit"


def test_a_control_is_kept_whole_and_marked(made) -> None:
    keeper = made(crops_per_passage=1)
    pass_by(keeper, CONTROLS[0], views=7)
    pass_by(keeper, CHOSEN[0], views=7)
    records = made.records(keeper)
    assert [one.control for one in records] == [True] * 7 + [False]
    assert [one.number for one in records][:7] == list(range(7))
    assert keeper.counters["crops_kept_control"] == 7


def test_every_view_is_accounted_for_and_the_budget_outlives_a_restart(made) -> None:
    keeper = made(daily_bytes=1_000_000, persons="never")
    for track in range(1, 150):
        persons = [PERSON] if track % 7 == 0 else ()
        fact = None if track % 11 == 0 else unmatched
        pass_by(keeper, track, fact, views=5, class_name="person" if track % 13 == 0 else "car", persons=persons)
    for number in range(3):
        keeper.see(view(500, number))
    keeper.end(0.0)
    records = made.records(keeper)
    counters = keeper.counters
    assert counters["crops_lost_at_the_end"] == 3
    assert counters["crops_kept"] == len(records) > 20
    assert counters["crops_over_budget_control"] > 0
    assert sum(n for name, n in counters.items() if name != "crops_kept_control") == 149 * 5 + 3
    size = sum(path.stat().st_size for path in keeper._spool.folder.iterdir())
    assert size <= 1_000_000 / 6 + 2 * 1024, "a sixth of a day's bytes at once"
    again = made(daily_bytes=1_000_000)
    assert LEDGER in again.stored()
    assert again._ledger.buckets == keeper._ledger.buckets


def test_what_breaks_the_contract_costs_that_passage_alone(made) -> None:
    keeper = made()
    bad = tracklet(CHOSEN[0])
    object.__setattr__(bad, "frame_px", (0, 0))
    keeper.see(view(CHOSEN[0]))
    keeper.over(bad, 0.0)
    keeper.hear(unmatched(CHOSEN[0]), 0.0)
    pass_by(keeper, CHOSEN[1])
    assert {one.passage for one in made.records(keeper)} == {name(CHOSEN[1])}
    assert keeper.counters["crops_unfit"] == 1
