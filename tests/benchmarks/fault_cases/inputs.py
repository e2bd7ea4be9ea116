"""What comes from outside: models, bundles, settings, names of files. Each through the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.benchmarks.fault_case import Case

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

import tiny_bundle  # noqa: E402
from tiny_onnx import TinyOnnx  # noqa: E402

INPUT = {"width_px": 32, "height_px": 32}


def edge_app(*arguments: object) -> tuple[int, str, float]:
    """Exit code, everything said, seconds. One that takes longer than a minute is ended, with code -9."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command, began_s = [sys.executable, "-m", "edge_app", *map(str, arguments)], time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    except subprocess.TimeoutExpired:
        return -9, "", time.monotonic() - began_s
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began_s


def site(folder: Path, name: str = "site", **changes: Any) -> Path:
    """A site of one simulated camera whose models see one car everywhere, and its mean colour."""
    models = TinyOnnx(folder)
    car = models.constant(np.array([[200, 150, 400, 350, 0.9, 0]], np.float32), (448, 640))
    raw = {
        "site": "faults",
        "node": "edge-1",
        "ticks": {"mode": "lockstep", "speed": None},
        "cameras": [{"id": "gate", "source": "sim://town/gate?seconds=4"}],
        "detector": {"path": str(car), "input": {"width_px": 640, "height_px": 448}, "class_names": ["car"]},
        "embedder": {"path": str(models.mean_colour()), "input": INPUT},
        "store": {"path": "state/site.db"},
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def bundle(folder: Path, name: str, embedder: Path | bytes | None = None, **changes: Any) -> Path:
    """A site whose embedder comes in a signed bundle."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    tiny_bundle.write(folder / f"{name}.bundle", embedder or TinyOnnx(folder).mean_colour(), **changes)
    public = tiny_bundle.KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "site.pub").write_bytes(public)
    return site(folder, name, embedder={"path": f"{name}.bundle"}, bundles={"keys": ["site.pub"]})


def last_line(said: str) -> str:
    return said.strip().splitlines()[-1].strip()[:300] if said.strip() else "nothing"


def said_of(said: str, word: str) -> str:
    """The first line with a word."""
    return next((line for line in said.splitlines() if word in line), "nothing")


def one_bad_crop(folder: Path) -> tuple[str, bool]:
    path = site(folder, embedder={"path": str(nan_for_dark(folder)), "input": INPUT})
    code, said, _ = edge_app("run", "--config", path)
    return f"exit {code}; {said_of(said, 'left out')}", code == 0 and "views whose embedding" in said


def nan_for_dark(folder: Path) -> Path:
    """Mean colours, and no number for a picture whose red is below 0.45 on average (the road is, at times)."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "least"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["mean", "nothing"], ["y"]),
    ]
    values = {"axes": np.array([2, 3]), "least": np.array(0.45, np.float32), "zero": np.array(0, np.float32)}
    graph = helper.make_graph(
        nodes,
        "dark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 3])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "dark.onnx")
    return folder / "dark.onnx"


def fractions(folder: Path) -> tuple[str, bool]:
    rows = np.array([[0.1, 0.2, 0.5, 0.6, 0.9, 0]], np.float32)
    (folder / "x").mkdir()
    path = TinyOnnx(folder / "x").constant(rows)
    detector = {"path": str(path), "input": INPUT, "class_names": ["car"]}
    code, said, _ = edge_app("run", "--config", site(folder, detector=detector))
    return said_of(said, "left out"), code == 0 and "strong boxes smaller than a pixel" in said


def older(folder: Path) -> tuple[str, bool]:
    seven, three = bundle(folder, "seven", serial=7), bundle(folder, "three", serial=3)
    first, _, _ = edge_app("run", "--config", seven)
    code, said, _ = edge_app("run", "--config", three)
    return f"7 runs ({first}), then 3: exit {code}; {last_line(said)}", first == 0 and code == 65 and "is older" in said


def collapsed(folder: Path) -> tuple[str, bool]:
    made = tiny_bundle.golden()
    rows = np.tile(made.rows[:1], (len(made.rows), 1))
    (folder / "x").mkdir()
    same = TinyOnnx(folder / "x").constant(rows[0])
    path = bundle(folder, "same", same, golden=tiny_bundle.Golden(made.crops, rows, rows, 0.98))
    code, said, _ = edge_app("run", "--config", path)
    return f"exit {code}; {last_line(said)}", code == 65 and "collapsed" in said


def endless(folder: Path) -> tuple[str, bool]:
    embedder = {"path": str(TinyOnnx(folder).endless()), "input": INPUT, "engine": {"trial_s": 10}}
    code, said, seconds = edge_app("run", "--config", site(folder, embedder=embedder))
    return f"exit {code} after {seconds:.0f} s; {last_line(said)}", code == 65 and "did not end within 10 s" in said


def rights(folder: Path) -> tuple[str, bool]:
    edge_app("run", "--config", bundle(folder, "seven"))
    found = sorted((folder / "state" / "bundles").rglob("*"))
    open_ = [path.name for path in found if path.stat().st_mode & 0o077]
    return f"{len(found)} files and folders of the bundle, {len(open_)} open to others", bool(found) and not open_


def settings_files(folder: Path) -> tuple[str, bool]:
    texts = {"deep": "a: " + "[" * 900 + "]" * 900, "digits": "a: " + "9" * 5000, "20 MB": "a: [" + "x, " * 7_000_000}
    answers = []
    for name, text in texts.items():
        (folder / "x.yaml").write_text(text)
        code, said, seconds = edge_app("check", "--config", folder / "x.yaml")
        answers.append((code == 78 and "Traceback" not in said and seconds < 30, f"{name}: {last_line(said)}"))
    return "; ".join(text for _, text in answers), all(good for good, _ in answers)


def forged_lines(folder: Path) -> tuple[str, bool]:
    name = "a\n2026-01-01T00:00:00.000Z ERROR store: forged\x1b[2J.mp4"
    _, said, _ = edge_app("run", "--config", site(folder, cameras=[{"id": "gate", "source": name}]))
    lines = said.splitlines()
    forged = [line for line in lines if line.startswith("2026-01-01T00:00:00.000Z ERROR store: forged")]
    return f"{len(lines)} lines, {len(forged)} forged", not forged and all(line.isprintable() for line in lines)


def space_in_a_name(folder: Path) -> tuple[str, bool]:
    path = site(folder, cameras=[{"id": "north gate", "source": "a.mp4"}])
    _, said, _ = edge_app("check", "--config", path)
    return said.strip().replace("\n", " | "), "1 mistake\n" in said and "only letters" in said and "^[" not in said


def refused_once(folder: Path) -> tuple[str, bool]:
    (folder / "x.mp4").write_bytes(b"no video" * 200)
    path, out = site(folder, cameras=[{"id": "gate", "source": "x.mp4"}]), folder / "out.jsonl"
    _, said, _ = edge_app("replay", "--config", path, "--out", out)
    times, left = said.count("not a video file"), [each.name for each in folder.glob("out.jsonl*")]
    return f"said {times} times, left behind: {', '.join(left) or 'nothing'}", times == 1 and not left


def other_classes(folder: Path) -> tuple[str, bool]:
    import onnx

    path = site(folder)
    raw = yaml.safe_load(path.read_text())
    model = onnx.load(folder / raw["detector"]["path"])
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", "{0: 'person', 1: 'car'}"
    onnx.save(model, folder / raw["detector"]["path"])
    raw["detector"]["class_names"] = ["car", "person"]
    path.write_text(yaml.safe_dump(raw))
    code, said, _ = edge_app("check", "--config", path)
    return last_line(said), code == 65 and "'person' in the model file" in said


def parked(_: Path) -> tuple[str, bool]:
    """The real perception, on a detector and an embedder that see a car for 9 s of every 12."""
    from tests.edge_app.perception.test_hidden import PLACE, WHITE, Street

    street = Street([(12.0 * k, 12.0 * k + 9.0, PLACE, "white") for k in range(10)], {"white": WHITE})
    found = len(street.watched(120.0))
    return f"{found} passage{'s' if found > 1 else ''}", found == 1


def empty_area(folder: Path) -> tuple[str, bool]:
    camera = {"id": "gate", "source": "sim://town/gate?seconds=4", "area": [[0.5, 0.5]] * 3}
    code, said, _ = edge_app("check", "--config", site(folder, cameras=[camera]))
    return last_line(said), code == 78 and "encloses nothing" in said


def hostile_numbers(folder: Path) -> tuple[str, bool]:
    """Five places, eight values: `check` in this process, as the command calls it."""
    from edge_app.config import load
    from edge_app.errors import ConfigurationError

    places = [("ticks", "tick_s"), ("track", "lost_after_s"), ("associate", "slack_s"), ("health", "interval_s"),
              ("tracklets", "moved")]  # fmt: skip
    values = [".nan", ".inf", "1e400", "-1", "1.0e-300", "1.0e+300", "9" * 5000, "true"]
    refused = 0
    for group, key in places:
        for value in values:
            path = site(folder, "numbers", **{group: {key: "HOSTILE"}})
            path.write_text(path.read_text().replace("HOSTILE", value))
            try:
                load(path)
            except ConfigurationError as error:
                refused += len(error.problems) == 1
    return f"{refused} of {len(places) * len(values)} refused in one line each", refused == len(places) * len(values)


CASES = [
    Case("F18", "An embedder that gives no number for dark crops",
         "passed `check`, then `run` left with 65 and was not restarted; the good crops of the batch were lost too",
         one_bad_crop),
    Case("F23", "A detector that gives boxes in fractions of the picture",
         "no boxes, exit 0, and not a word", fractions),
    Case("F23", "A model file that calls its classes otherwise than the configuration",
         "was accepted: its cars were persons", other_classes),
    Case("F24", "A parked car that is hidden ten times", "10 tracklets, 10 newcomers", parked),
    Case("E15", "A bundle of an older serial", "serial 3 ran after serial 7", older),
    Case("E15", "A bundle whose embeddings are all equal", "was accepted: its golden crops came out so", collapsed),
    Case("E15", "A model with a loop that never ends", "the start hung for ever", endless),
    Case("E14", "Rights of unpacked bundles", "0644 in folders of 0755: every local user read the models", rights),
    Case("E16", "Settings 900 lists deep, with a number of 5,000 digits, of 20 MB",
         "two tracebacks, and no answer in 60 s", settings_files),
    Case("E16", "A file's name with a line feed and escapes",
         "began a line of its own in the log and cleared the screen", forged_lines),
    Case("E16", "Numbers that are none, or out of reason",
         "of these 40 values 22 were accepted and 5 ended in a traceback", hostile_numbers),
    Case("E17", "A camera id with a space",
         "a regular expression, and that the list of cameras was empty, which it was not", space_in_a_name),
    Case("E17", "A recording that is none", "was refused twice and left an empty result", refused_once),
    Case("F25", "An area of three equal points", "was accepted, and the camera saw nothing any more", empty_area),
]  # fmt: skip
