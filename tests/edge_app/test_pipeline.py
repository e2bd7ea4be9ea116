"""The real loop on fakes behind its protocols: what is written together, in which order, and what a stop leaves."""

import numpy as np
import pytest

from edge_app.associate.draft import Rules
from edge_app.associate.settings import AssociateSettings, LinkSettings, TransitSettings
from edge_app.contract.envelope import uuid7
from edge_app.meter import Meter
from edge_app.pipeline import Association, Pipeline, progress_of
from edge_app.store.parts import Parts
from edge_app.types import Frame, Tracklet

START_S = 1_700_000_000.0
LINK = LinkSettings(from_camera="a", to_camera="b", transit=TransitSettings(min_s=1, max_s=40))
LOOK = np.eye(1, 4, dtype=np.float32)


def tracklet(name, entry_s, exit_s):
    return Tracklet(
        f"n/{name}", "n", name[0], "car", START_S + entry_s, START_S + exit_s, 0.1, "left", "right", 0.0,
        LOOK, np.ones(1, np.float32), "v1", np.zeros(0), np.zeros((0, 4), np.float32),
    )  # fmt: skip


class Eyes:
    """Sees what it is told to see, at the second it is told."""

    def __init__(self, tracklets=(), still_open=()):
        self.waiting, self.still_open, self.saw = list(tracklets), list(still_open), []

    def see(self, now, frames):
        self.saw.append((now, [frame.camera for frame in frames]))
        ended = [one for one in self.waiting if one.exit_time_s <= now]
        self.waiting = [one for one in self.waiting if one not in ended]
        return [], ended

    def end(self):
        return self.still_open

    def seen_until(self, now):
        return {}

    def snapshot(self):
        return {"perception/seen": str(len(self.saw)).encode()}


class Book:
    """A journal that writes every second, and keeps what would be in each transaction."""

    def __init__(self):
        self.noted, self.written, self.finished = [], [], False
        self._facts, self._at_s = [], -1e18

    def note(self, now, tracklets, facts, delivering):
        self.noted.append((now, [one.id for one in tracklets], list(delivering)))
        self._facts += facts

    def is_due(self, now):
        return bool(self._facts) or now - self._at_s >= 1.0

    def write(self, now, parts):
        self.written.append((dict(parts), self._facts))
        self._facts, self._at_s = [], now
        return []

    def finish(self, now, parts):
        self.finished = True
        self.write(now, parts)
        return ["the last interval"]


def rules():
    return Rules("n", "1", (LINK,), AssociateSettings(), lambda time_s, content: uuid7(time_s, content.encode()))


def pipeline(eyes, book, parts=None, **options):
    return Pipeline(eyes, Association(rules(), Parts(parts)), book, Meter(), **options)


def ticks(seconds, cameras="ab", every_s=0.5):
    for step in range(int(seconds / every_s)):
        now = START_S + step * every_s
        yield now, [Frame(camera, now, None, 10, 10) for camera in cameras]


def progress(parts):
    return progress_of(Parts(parts))


def test_a_position_is_never_written_before_the_facts_of_its_frame():
    """Every transaction holds the state, the facts and the positions of one and the same step."""
    book = Book()
    eyes = Eyes([tracklet("a1", 1, 3), tracklet("b1", 13, 15), tracklet("b2", 21, 22)])
    steps = list(pipeline(eyes, book).run(ticks(90)))
    facts = [fact for step in steps for fact in step.facts]
    assert any(type(fact).__name__ == "Match" for fact in facts)
    assert [fact for _, written in book.written for fact in written] == facts
    at = {id(fact): step.now for step in steps for fact in step.facts}
    for parts, written in book.written:
        now = progress(parts)["now"]
        assert progress(parts)["positions"] == {"a": now, "b": now}
        assert all(at[id(fact)] <= now for fact in written)
        assert all(at[id(fact)] > now - 1.0 for fact in written)
    assert b"n/b1" in b"".join(value or b"" for parts, _ in book.written for value in parts.values())


def test_what_was_written_is_enough_to_go_on():
    """Cut anywhere between two steps, a second pipeline concludes what one alone would have."""
    passages = [tracklet("a1", 1, 3), tracklet("b1", 13, 15), tracklet("a2", 5, 8), tracklet("b2", 20, 22)]
    whole = [f for step in pipeline(Eyes(passages), Book()).run(ticks(90)) for f in step.facts]
    every = list(ticks(90))
    for cut in (8, 20, 33, 60):
        book, parts = Book(), {}
        first = pipeline(Eyes([p for p in passages if p.exit_time_s <= every[cut - 1][0]]), book)
        said = [fact for step in first.run(every[:cut]) for fact in step.facts]
        first.save()
        for written, _ in book.written:
            parts.update(written)
        kept = {key: value for key, value in parts.items() if value is not None}
        later = [p for p in passages if p.exit_time_s > every[cut - 1][0]]
        second = pipeline(Eyes(later), Book(), kept, **progress(kept))
        assert second.now == every[cut - 1][0]
        said += [fact for step in second.run(every[cut:]) for fact in step.facts]
        assert [fact.event_id for fact in said] == [fact.event_id for fact in whole], cut


def test_the_end_closes_tracks_decides_and_closes_the_books():
    book = Book()
    one = pipeline(Eyes([], [tracklet("a1", 1, 2)]), book)
    list(one.run(ticks(3)))
    steps = list(one.finish())
    assert [step.tracklets[0].id for step in steps if step.tracklets] == ["n/a1"]
    assert not one.association.undecided
    assert book.finished
    assert steps[-1].aggregates == ["the last interval"]
    assert all(delivering == [] for now, _, delivering in book.noted if now > START_S + 3)  # nobody delivers any more


def test_a_camera_that_is_silent_says_nothing_about_its_traffic():
    book = Book()
    one = pipeline(Eyes(), book)
    list(one.run([*ticks(1), (START_S + 2, []), (START_S + 3, [Frame("b", START_S + 3, None, 10, 10)])]))
    assert [delivering for _, _, delivering in book.noted][-2:] == [["a", "b"], ["b"]]


def test_tracks_that_could_not_be_carried_over_are_not_lost_by_a_stop_before_the_first_step():
    book = Book()
    one = pipeline(Eyes(), book, carried_over=[tracklet("a1", 1, 2)])
    one.save()
    assert book.written == []
    list(one.run(ticks(1)))
    assert book.noted[0][1] == ["n/a1"]
    one.save()
    assert progress(book.written[-1][0])["now"] == one.now


def test_an_error_of_the_eyes_reaches_the_caller():
    class Blind(Eyes):
        def see(self, now, frames):
            raise ValueError("no eyes")

    with pytest.raises(ValueError, match="no eyes"):
        list(pipeline(Blind(), Book()).run(ticks(1)))
