"""Each reason for not being matched, in a tiny world of its own; and nothing of it decides anything."""

from collections import Counter

import numpy as np
import pytest

from edge_app.associate.settings import AssociateSettings, LinkSettings, TransitSettings
from edge_app.associate.why import Seen, reasons, seen, told
from edge_app.types import Tracklet

LINK = LinkSettings(from_camera="a", to_camera="b", transit=TransitSettings(min_s=5, max_s=20))


def passage(name, entry_s, version="v1", class_name="car", side_px=60.0):
    return Seen(name, name[0], class_name, entry_s, entry_s + 2, version, side_px)


def reason(*passages, links=(LINK,), parents=None):
    """Of the last of them."""
    (found,) = reasons(passages, parents or {one.id: "" for one in passages[:-1]}, links, AssociateSettings(), 16)
    return found


def test_links():
    assert reason(passage("b1", 10), links=()) == "no links are configured (links:)"
    assert reason(passage("a1", 10)) == "no link leads to camera a"
    assert reason(passage("b1", 10)) == "no passage at all on camera a, where the links to b begin"


@pytest.mark.parametrize("entry_s", [6.0, 23.0, -5.0])
def test_travel_times(entry_s):
    assert "travel times" in reason(passage("a1", 0), passage("b1", entry_s))


def test_the_gate_is_that_of_the_association():
    for entry_s in (7.0, 22.0):
        assert "probable" in reason(passage("a1", 0), passage("b1", entry_s))


def test_looks():
    assert "another class" in reason(passage("a1", 0, class_name="person"), passage("b1", 10))
    small = passage("b1", 10, version=None, side_px=9.0)
    assert "16 px" in reason(passage("a1", 0), small)
    assert reason(passage("a1", 0), small).startswith("it has no embedding")
    assert "hidden, cut off or blurred" in reason(passage("a1", 0), passage("b1", 10, version=None))
    assert reason(passage("a1", 0, version=None), passage("b1", 10)).startswith("its candidates have no embedding")
    assert "another model" in reason(passage("a1", 0, version="v0"), passage("b1", 10))


def test_a_candidate_that_went_on_as_somebody_else():
    others = [passage("a1", 0), passage("b1", 10), passage("b2", 11)]
    assert reason(*others, parents={"a1": "", "b1": "a1"}) == "its candidates went on as another passage"


def test_what_is_told():
    assert list(told([], 0, Counter())) == ["no passage was seen: nothing was detected and tracked for long enough"]
    passages = [passage("a1", 0), passage("b1", 10), passage("b2", 30)]
    lines = list(told(passages, 1, reasons(passages, {"b1": "a1"}, [LINK], AssociateSettings(), 16)))
    assert lines[0] == "1 of 3 passages continue an earlier one; the others:"
    assert sorted(line.split(None, 1)[0] for line in lines[1:]) == ["1", "1"]
    assert list(told(passages[:1], 1, Counter())) == ["1 of 1 passages continue an earlier one"]


def test_a_tracklet_in_short():
    boxes = np.array([[0, 0, 10, 30], [0, 0, 25, 20]], np.float32)
    tracklet = Tracklet(
        "n/a1", "n", "a", "car", 1.0, 2.0, 0.1, "left", "right", 0.0, np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32), "v1", np.arange(2.0), boxes,
    )  # fmt: skip
    assert seen(tracklet) == Seen("n/a1", "a", "car", 1.0, 2.0, None, 20.0)
