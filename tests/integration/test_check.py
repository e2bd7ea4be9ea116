"""`edge-app check` through the real command: every look, every problem at once, the right exit code, one line each."""

import json

import numpy as np
import pytest
import yaml
from edge_commands import Outcome
from test_bad_input import INPUT, write_clip
from tiny_onnx import TinyOnnx

from edge_app.check import CheckError, check_site
from edge_app.demo.broker import free_port
from edge_app.demo.play import Play, raw_config


@pytest.fixture(scope="module")
def site(group):
    """A sound site of one recording, with models made for it."""
    pytest.importorskip("onnx")
    models = TinyOnnx(group.folder)
    clip = write_clip(group.folder / "good.mp4")
    car = np.array([[8, 12, 24, 24, 0.9, 0]], np.float32)
    detector = {
        "path": str(models.constant(car)),
        "input": INPUT,
        "class_names": ["car"],
        "head": "ultralytics-end2end",
    }
    return {
        "site": "checked",
        "node": "edge-1",
        "detector": detector,
        "embedder": {"path": str(models.mean_colour()), "input": INPUT, "version": "mean-colour"},
        "cameras": [{"id": "good", "source": str(clip)}],
        "store": {"path": "fine.db"},
    }


@pytest.fixture(scope="module")
def checked(group, site):
    """All checks, at once."""
    embedders = TinyOnnx(group.folder / "other")
    (group.folder / "other").mkdir()
    short = {"trial_s": 5}
    evil = "evil\n2026-01-01T00:00:00.000Z ERROR store: forged\x1b[2J"
    (group.folder / "not-a-store.db").write_text("no database " * 100)
    variants = {
        "good": {},
        "embedder endless": {"embedder": site["embedder"] | {"path": str(embedders.endless()), "engine": short}},
        "embedder hungry": {
            "embedder": site["embedder"] | {"path": str(embedders.hungry(8)), "engine": {"trial_mib": 2048}}
        },
        "embedder blind": {"embedder": site["embedder"] | {"path": str(embedders.constant(np.array([np.nan, 1])))}},
        "embedder collapsed": {"embedder": site["embedder"] | {"path": str(write_constant(group.folder))}},
        "detector absent": {"detector": site["detector"] | {"path": "absent.onnx"}},
        "detector class": {"detector": site["detector"] | {"classes": ["lorry"]}},
        "camera absent": {"cameras": [{"id": "none", "source": "none.mp4"}, *site["cameras"]]},
        "camera is a folder": {"cameras": [{"id": "folder", "source": "."}]},
        "store": {"store": {"path": "not-a-store.db"}},
        "broker": {"mqtt": {"host": "127.0.0.1", "port": free_port()}},
        "everything": {
            "detector": site["detector"] | {"path": f"{evil}.onnx"},
            "embedder": {"path": "absent.onnx", "input": INPUT},
            "cameras": [{"id": "none", "source": f"{evil}.mp4"}, {"id": "gone", "source": "sim://town/nowhere"}],
            "store": {"path": str(group.folder / "good.mp4" / "store.db")},
            "mqtt": {"host": "127.0.0.1", "port": free_port()},
        },
    }
    for name, changes in variants.items():
        group.start(name, "check", "--config", group.write(name, site | changes))
    return group


def write_constant(folder):
    (folder / "same").mkdir()
    return TinyOnnx(folder / "same").constant(np.array([1.0, 2.0, 3.0]))


def lines(outcome: Outcome) -> list[str]:
    return outcome.error.splitlines()


def test_a_sound_site(checked) -> None:
    assert checked["good"].code == 0, checked["good"].error
    detector, embedder, camera, links, messages, store = checked["good"].out.splitlines()
    assert detector == "detector: constant.onnx, ultralytics-end2end head, 1 classes, onnxruntime/CPUExecutionProvider"
    assert embedder == (
        "embedder: mean_colour.onnx, version mean-colour, 3 values, makes nothing of pictures that are black"
    )
    assert camera.startswith("camera good: ")
    assert links == "links: 0 links; cameras without any: good"
    assert messages.startswith("messages: ")
    assert store.endswith("fine.db: new")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("embedder endless", 65, "endless.onnx: the model did not end within 5 s (engine.trial_s)"),
        ("embedder hungry", 65, "there is not enough memory for it"),
        ("embedder blind", 65, "the embeddings of all 6 test pictures are zero or not finite"),
        ("embedder collapsed", 65, "the embedder has collapsed"),
        ("detector absent", 65, "absent.onnx does not exist"),
        ("detector class", 65, "no class 'lorry'; the model knows car"),
        ("camera absent", 66, "none.mp4): no such file"),
        ("camera is a folder", 66, "camera folder"),
        ("store", None, "not-a-store.db"),
        ("broker", 69, "broker: "),
    ],
)
def test_one_problem_is_one_line_and_its_own_exit_code(checked, name, code, said) -> None:
    outcome = checked[name]
    outcome.assert_refused(code or outcome.code, "1 problem", said)
    assert outcome.code in ((code,) if code else (74, 78))
    assert len(lines(outcome)) == 2, outcome.error
    assert outcome.out == "", "what was found beside it is of no use"


def test_every_problem_at_once_and_the_first_ones_exit_code(checked) -> None:
    outcome = checked["everything"]
    outcome.assert_refused(65, "6 problems")
    head, *problems = lines(outcome)
    assert head.endswith("everything.yaml: 6 problems")
    assert [line.split(":")[0].strip() for line in problems] == [
        "- detector", "- embedder", "- camera none", "- camera gone", "- store", "- broker"]  # fmt: skip
    assert all(line.isprintable() for line in problems), "no file's name forges a line"
    assert "evil\\n2026-01-01T00:00:00.000Z ERROR store: forged\\x1b[2J" in problems[0]


def test_recorded_boxes_are_counted_by_camera(tmp_path):
    raw = raw_config(Play("grid-2", seconds=5.0), tmp_path / "node.db", None)
    first, second = (camera["id"] for camera in raw["cameras"][:2])
    rows = [
        {"camera": first, "frame": 0, "box": [0, 0, 9, 9], "class": "car"},
        {"camera": second, "frame": 3, "box": [1, 1, 9, 9]},
    ]
    (tmp_path / "boxes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    raw["detector"] = {"recorded": "boxes.jsonl"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(raw))
    assert check_site(tmp_path / "site.yaml")[0] == (
        f"detector: boxes.jsonl, recorded boxes: {first} 1, {second} 1; classes car, object"
    )
    (tmp_path / "boxes.jsonl").write_text("1,2\n")
    with pytest.raises(CheckError, match="rows name no camera, and there are 2"):
        check_site(tmp_path / "site.yaml")
