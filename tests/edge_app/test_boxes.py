"""Boxes from files: both formats say the same, and what cannot be read is said line by line."""

import json

import numpy as np
import pytest

from edge_app.boxes import NAMELESS, NO_ID, read_boxes
from edge_app.errors import ConfigurationError


@pytest.fixture
def file(tmp_path):
    def write(text, name="boxes.txt"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def line(**values):
    return json.dumps({"camera": "gate", "frame": 0, "box": [1, 2, 11, 22], **values})


def test_rows_and_json_lines_say_the_same(file):
    rows = file("2,7,10,20,30,40,0.5,3,1\n1,8,0,0,5,5,1,1,1\n")
    lines = file(
        "\n".join([
            line(frame=1, box=[10, 20, 40, 60], score=0.5, **{"class": "car"}, id=7),
            line(box=[0, 0, 5, 5], score=1, **{"class": "person"}, id=8),
            line(camera="elsewhere"),
        ]),
        "boxes.jsonl",
    )  # fmt: skip
    for path in (rows, lines):
        found = read_boxes(path, ["gate"])["gate"]
        assert found.frames.tolist() == [0, 1]
        assert found.boxes.tolist() == [[0, 0, 5, 5], [10, 20, 40, 60]]
        assert found.scores.tolist() == [1, 0.5]
        assert [found.class_names[index] for index in found.classes] == ["person", "car"]
        assert found.ids.tolist() == [8, 7]
        assert found.boxes[found.of(1)].tolist() == [[10, 20, 40, 60]]
        assert found.boxes[found.of(2)].shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "score", "name"),
    [
        ("1,-1,0,0,5,5", 1.0, NAMELESS),  # no more than where
        ("1 3 0 0 5 5 0.25", 0.25, NAMELESS),  # blanks
        ("1,-1,0,0,5,5,0.25,-1,-1,-1", 0.25, NAMELESS),  # as MOTChallenge's detections
        ("1,3,0,0,5,5,1,-4.3,8.1,0", 1.0, NAMELESS),  # ten columns: the last three are a place on the ground
        ("1,3,0,0,5,5,-1,5,0.4", 1.0, "motorcycle"),
    ],
)
def test_columns_that_are_left_out_or_say_nothing(file, row, score, name):
    found = read_boxes(file(row), ["gate"])["gate"]
    assert (found.frames.tolist(), found.scores.tolist(), found.class_names) == ([0], [score], (name,))


def test_what_motchallenge_leaves_out_is_left_out_and_frames_may_count_from_0(file):
    found = read_boxes(file("0,1,0,0,5,5,1,3,1\n3,2,0,0,5,5,0,3,1\n3,3,0,0,5,5,1,12,1\n4,4,0,0,5,5,1,3,1\n"), ["a"])[
        "a"
    ]
    assert (found.frames.tolist(), found.ids.tolist()) == ([0, 4], [1, 4])
    found = read_boxes(file("1,1,0,0,5,5,1,12,1\n"), ["a"], ["lorry"] * 12)["a"]
    assert found.class_names == ("lorry",)


def test_a_file_for_each_camera(tmp_path, file):
    file("1,1,0,0,5,5", "gate.txt")
    file("1,2,0,0,5,5\n2,2,0,0,5,5", "bridge.txt")
    found = read_boxes(tmp_path / "{camera}.txt", ["gate", "bridge"])
    assert {camera: each.ids.tolist() for camera, each in found.items()} == {"gate": [1], "bridge": [2, 2]}


def test_a_box_without_id_or_class(file):
    found = read_boxes(file(line()), ["gate"])["gate"]
    assert (found.ids.tolist(), found.class_names, found.boxes.dtype) == ([NO_ID], (NAMELESS,), np.float32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,1,0,0,5", "line 1: expected 6 to 10 numbers, frame,id,left,top,width,height,score,class, got 5"),
        ("\n1,1,0,0,5,x", "line 2: expected a number of pixels, got x"),
        ("1.5,1,0,0,5,5", "line 1: expected a frame, a whole number, got 1.5"),
        ("nan,1,0,0,5,5", "line 1: expected a frame, got nan"),
        ("-1,1,0,0,5,5", "line 1: expected a frame from 0, got -1"),
        ("1,1,0,0,0,5", "line 1: the box has no size: 0, 0 to 0, 5"),
        ("1,1,0,0,5,5,64.2", "line 1: expected a score from 0 to 1, got 64.2"),
        ("{nothing", "line 1: no JSON: {nothing"),
        ("{}", "line 1: expected the name of a camera, got None"),
        (line(frame=None), "line 1: expected a frame, got None"),
        (line(frame=True), "line 1: expected a frame, got True"),
        (line(box=[1, 2, 3]), "line 1: expected a box [x1, y1, x2, y2], got [1, 2, 3]"),
        (line(box=[1, 2, 3, None]), "line 1: expected a corner of the box, got None"),
        (line(confidence=1), "line 1: unknown key confidence; known are camera, frame, box, score, class, id"),
        (line(**{"class": ""}), "line 1: expected the name of a class, 1 to 64 characters, got "),
        (line() + "\n" + '"text"', 'line 2: no JSON: "text"'),
        (line(camera="gat"), "no boxes of gate: are the cameras called so there?"),
        ("", "no boxes of gate: are the cameras called so there?"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(file, text, said):
    if '"text"' in text:
        said = 'line 2: expected an object, {…}: "text"'
    with pytest.raises(ConfigurationError) as error:
        read_boxes(file(text), ["gate"])
    assert said in error.value.problems[0]


def test_every_mistake_is_counted_and_the_first_are_shown(file):
    with pytest.raises(ConfigurationError) as error:
        read_boxes(file("1,1,0,0,5\n" * 5_000 + "1,1,0,0,5,5\n"), ["gate"])
    assert len(error.value.problems) == 11
    assert error.value.problems[-1].endswith("5,000 of 5,001 lines are wrong")


def test_files_that_are_not_there_or_no_text_and_rows_of_several_cameras(tmp_path, file):
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError) as error:
        read_boxes(tmp_path / "{camera}.txt", ["a", "b"])
    assert [problem.rpartition("/")[2] for problem in error.value.problems] == [
        "a.txt cannot be read: No such file or directory",
        "b.txt: expected text, JSON lines or rows of numbers; it is none",
    ]
    with pytest.raises(ConfigurationError, match=r"as in boxes/\{camera\}.txt"):
        read_boxes(file("1,1,0,0,5,5"), ["a", "b"])
    with pytest.raises(ConfigurationError, match="from 1 to 2, the names that are given, got 3"):
        read_boxes(file("1,1,0,0,5,5,1,3,1"), ["a"], ["car", "bus"])
