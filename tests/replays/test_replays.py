"""The facts of three recorded runs are what they were; see README.md beside this file."""

import pytest
from recorded import RUNS, differences, kept, play


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_facts_are_what_they_were(name, tmp_path, request):
    data = request.getfixturevalue("shared_data") if RUNS[name].needs_data else tmp_path
    found = list(differences(play(name, data, tmp_path), kept(name), RUNS[name].tolerance))
    assert not found, "\n".join([*found[:20], "meant so? python tests/replays/recorded.py --why '…'"])


def test_a_difference_is_seen():
    before = kept("town-detections")
    moved = [*before[:-1], {**before[-1], "topic": "elsewhere"}]
    assert len(list(differences(moved, before, 0.1))) == 1
    assert list(differences(before[:-1], before, 0.1))
    (number,) = differences([{"a": [1.0, {"b": 2.0}]}], [{"a": [1.0, {"b": 2.1}]}], 0.01)
    assert number == "fact 1.a.1.b: 2.0, kept is 2.1"
    assert not list(differences([{"a": 1.00001}], [{"a": 1}], 1e-4))
    assert list(differences([{"a": True}], [{"a": 1}], 1e-4))
