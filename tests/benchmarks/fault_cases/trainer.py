"""The trainer's faults of version 0.1, done anew through `trainer`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.fault_case import Case

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = """\
data: {root: crops, cache: cache, input: {width_px: 16, height_px: 32}}
model: {backbone: osnet_x0_25, ghost_group: 4, pooling: average}
method:
  name: cluster_contrast
  labels: {clustering: {jaccard: {k1: 8, k2: 3}, dbscan: {eps: 0.6, min_samples: 2}}}
  sampler: {clusters: 2, crops: 4, steps: 2}
  augment: {pad_px: 1}
epochs: 1
when_in_doubt: train
device: cpu
"""


def trainer(folder: Path, *words: str) -> tuple[int, str, float]:
    """Exit status, what was said, and seconds of `trainer WORDS…` in the folder."""
    begin_s = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainer", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begin_s


def resume_after_a_crash_in_the_report(folder: Path) -> tuple[str, bool]:
    from tests.trainer.tiny_crops import write_market

    write_market(folder / "crops")
    (folder / "run.yaml").write_text(f"{SETTINGS}keep: silhouette\n")
    (folder / "run").mkdir()
    (folder / "run" / "report").write_text("a file in the report's place")
    words = ("train", "--config", "run.yaml", "--out", "run")
    crashed, _, _ = trainer(folder, *words)
    (folder / "run" / "report").unlink()
    resumed, said, _ = trainer(folder, *words, "--resume")
    left = [name for name in ("model.pt", "labels.npz", "report/index.html") if (folder / "run" / name).is_file()]
    mended = (crashed, resumed) == (69, 0) and len(left) == 3 and "Traceback" not in said
    return f"crash in the report {crashed}, then --resume {resumed}, leaving {', '.join(left)}", mended


class _Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def code_from_weights(folder: Path) -> tuple[str, bool]:
    import torch

    marker = folder / "marker"
    torch.save({"model": _Attack(marker)}, folder / "evil.pt")
    exits = []
    for words in (
        ("detector", "export", "./evil.pt", "--out", "evil.onnx"),
        ("detector", "train", "--teacher", "./evil.pt", "--frames", ".", "--weights", "yolo26n.yaml", "--out", "run"),
    ):
        code, said, _ = trainer(folder, *words)
        exits.append(code if "--trust-pickle" in said and "Traceback" not in said else 1)
    ran = marker.exists()
    return f"exits {exits}, refused by name; the code in it {'ran' if ran else 'did not run'}", not ran and exits == [
        65,
        65,
    ]


def settings_as_attacks(folder: Path) -> tuple[str, bool]:
    attacks = {
        "900 lists deep": "data: " + "[" * 900 + "]" * 900,
        "5,000 digits": "seed: " + "7" * 5000,
        "20 MB": "data: " + "x" * 20_000_000,
        "a billion laughs": "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        "a key twice": "data: {root: x}\ndata: {root: y}\n",
    }
    told, good = [], True
    for name, content in attacks.items():
        (folder / "run.yaml").write_text(content)
        code, said, seconds = trainer(folder, "train", "--config", "run.yaml", "--out", "run")
        good &= code == 78 and said.startswith("trainer: run.yaml: 1 mistake") and len(said.splitlines()) == 2
        told.append(f"{name}: {code} in {seconds:.0f} s")
    return "; ".join(told), good


CASES = [
    Case(
        "D11",
        "a finished run with keep: silhouette, taken up after a crash in its report",
        "FileNotFoundError with a traceback, exit 1: the best network had been moved, not copied.",
        resume_after_a_crash_in_the_report,
    ),
    Case(
        "E13",
        "trainer detector, given weights that are an attack",
        "The pickle was opened and its code ran.",
        code_from_weights,
    ),
    Case(
        "E16",
        "trainer train, given settings that are an attack",
        "900 lists deep and 5,000 digits: tracebacks; 20 MB: no answer in 60 s; the last of two equal keys won.",
        settings_as_attacks,
    ),
]
