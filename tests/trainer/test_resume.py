"""Runs that are broken off and taken up again, and checkpoints that are not whole."""

import contextlib
import os
import signal
import threading

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("tensorboard", reason="the trainer needs tensorboard")

from children import Child  # noqa: E402
from tiny_crops import write_market  # noqa: E402
from tiny_runs import assert_same, log_every_step, parsed, settings_of, weights  # noqa: E402

from trainer import checkpoint, run, tested  # noqa: E402
from trainer.errors import DataError, WorldError  # noqa: E402
from trainer.report import run as report  # noqa: E402
from trainer.runlog import RunLog, read_log  # noqa: E402


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def die_inside_an_epoch():
    """kill -9 at no particular moment after the second checkpoint, maybe while the third is written."""
    log_every_step()
    save, saved = checkpoint.save, []

    def save_and_die_soon(path, state):
        save(path, state)
        saved.append(path)
        if len(saved) == 2:
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()

    checkpoint.save = save_and_die_soon


def test_kill_and_resume_equals_the_unbroken_run(crops, tmp_path):
    """After kill -9 inside the first of three epochs, every bit is that of the unbroken run: the losses of all later
    steps, the pseudo labels and batches of all later epochs, weights, memories, and the labels left at the end."""
    file, folders = tmp_path / "config.yaml", (tmp_path / "whole", tmp_path / "broken")
    settings = settings_of(crops, tmp_path / "cache", checkpoint_steps=2, method__sampler__steps=8, epochs=3)
    file.write_text(yaml.safe_dump(settings))
    words = [("train", "--config", file, "--out", folder) for folder in folders]
    whole = Child(tmp_path / "said.whole", *words[0], prepare=log_every_step)
    broken = Child(tmp_path / "said.broken", *words[1], prepare=die_inside_an_epoch)
    assert broken.wait() == -signal.SIGKILL, broken.text()
    left = checkpoint.load(folders[1] / "last.ckpt")
    assert (left.epoch, left.step) in ((0, 4), (0, 6))
    resumed = Child(tmp_path / "said.resumed", *words[1], "--resume", prepare=log_every_step)
    assert whole.wait() == 0, whole.text()
    assert resumed.wait() == 0, resumed.text()

    plans, losses = ({line["epoch"]: line["plan"] for line in read_log(folders[0], "epoch")},
                     {line["step"]: line["cluster"] for line in read_log(folders[0], "step")})  # fmt: skip
    assert (len(plans), len(losses)) == (3, 24)
    lines = read_log(folders[1], "epoch")
    assert {line["epoch"] for line in lines} == {0, 1, 2}
    assert all(line["plan"] == plans[line["epoch"]] for line in lines)
    lines = read_log(folders[1], "step")
    assert {line["step"] for line in lines} == set(losses)
    assert all(line["cluster"] == losses[line["step"]] for line in lines)
    assert_same(*(weights(folder) for folder in folders))
    assert_same(*(checkpoint.load(folder / "last.ckpt").method for folder in folders))
    first, second = (np.load(folder / "labels.npz") for folder in folders)
    assert first["labels"].shape == first["paths"].shape == (54,)
    assert np.array_equal(first["labels"], second["labels"])
    assert not list(folders[1].glob(".*part"))  # not even of the checkpoint that was being written


def test_spcl_resumes_inside_an_epoch(crops, tmp_path, monkeypatch):
    method = {
        "name": "spcl",
        "clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"min_samples": 2}},
        "sampler": {"clusters": 4, "crops": 2, "steps": 4},
        "augment": {"pad_px": 1},
    }
    settings = parsed(crops, tmp_path / "cache", method=method, checkpoint_steps=3)
    run.start(settings, tmp_path / "whole", quiet=True)
    stop_at_save(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        run.start(settings, tmp_path / "stopped", quiet=True)
    monkeypatch.undo()
    run.start(settings, tmp_path / "stopped", resume=True, quiet=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    plans = [[line["plan"] for line in read_log(tmp_path / name, "epoch")] for name in ("whole", "stopped")]
    assert plans[0] == plans[1]
    assert len(set(plans[0])) == 2


def stop_at_save(monkeypatch, number):
    """The run ends right after its n-th checkpoint."""
    saved = []
    save = checkpoint.save

    def save_and_stop(path, state):
        save(path, state)
        saved.append(state.step)
        if len(saved) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)


STAGES = [  # of the end of a run that keeps its best network, in order: what is called, and whether it is done then
    (checkpoint, "save_model", True),  # the best network of the first epoch, without the checkpoint that says so
    (checkpoint, "save", True),
    (tested, "measure", True),
    (checkpoint, "copy", True),
    (run, "write_run", False),
    (report, "save_labels", True),
    (report.sheets, "write_picture", True),
    (report, "ranked_lists", False),
    (report.page, "write_page", True),
]


def test_every_stage_of_the_end_can_be_broken_off(crops, tmp_path, monkeypatch):
    """One run that is broken off at each of these and taken up each time leaves what the unbroken run leaves."""
    monkeypatch.setattr(
        report.charts, "embedding_map", lambda path, *_: path.write_bytes(b"takes longer than all else")
    )
    settings = parsed(crops, tmp_path / "cache", keep="silhouette", evaluate_every=1)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run.start(settings, whole, quiet=True)
    for module, name, done in STAGES:
        with monkeypatch.context() as here:
            stop_at(here, module, name, done)
            with pytest.raises(KeyboardInterrupt):
                run.start(settings, broken, resume=broken.exists(), quiet=True)
    for _ in range(2):  # also of a run that has nothing left to do
        run.start(settings, broken, resume=True, quiet=True)
        assert_same(weights(whole), weights(broken))
        first, second = (np.load(folder / "labels.npz")["labels"] for folder in (whole, broken))
        assert np.array_equal(first, second)
        pages = [(folder / "report" / "index.html").read_text(encoding="utf-8") for folder in (whole, broken)]
        assert pages[0] == pages[1]
        names = [sorted(path.name for path in (folder / "report").iterdir()) for folder in (whole, broken)]
        assert names[0] == names[1]
        pictures = [(folder / "report" / "curves.png").read_bytes() for folder in (whole, broken)]
        assert pictures[0] == pictures[1]  # steps and epochs that were gone twice count once


def stop_at(monkeypatch, module, name, done):
    """The run ends where this is called, or right after it."""
    call = getattr(module, name)

    def stopped(*given, **named):
        if done:
            call(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, stopped)


def test_a_run_of_version_0_1_whose_best_model_was_moved(crops, tmp_path):
    """Its best network is already in the model's place."""
    settings = parsed(crops, tmp_path / "cache", keep="silhouette")
    run.start(settings, tmp_path / "run", quiet=True)
    before = weights(tmp_path / "run")
    (tmp_path / "run" / "best.pt").unlink()
    run.start(settings, tmp_path / "run", resume=True, quiet=True)
    assert_same(before, weights(tmp_path / "run"))
    (tmp_path / "run" / "model.pt").unlink()
    with pytest.raises(DataError, match=r"best\.pt: no such file"):
        run.start(settings, tmp_path / "run", resume=True, quiet=True)


def test_a_test_set_that_cannot_be_used_is_not_shown_after_a_resume_either(crops, tmp_path, monkeypatch):
    """The report of the resumed run does not measure what the run gave up measuring."""
    settings = parsed(crops, tmp_path / "cache")

    def refuse(*_):
        raise DataError("of one camera")

    monkeypatch.setattr(tested, "measure", refuse)
    stop_at(monkeypatch, run, "write_run", False)
    with pytest.raises(KeyboardInterrupt):
        run.start(settings, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    monkeypatch.setattr(report, "ranked_lists", refuse)
    run.start(settings, tmp_path / "run", resume=True, quiet=True)
    assert not (tmp_path / "run" / "report" / "ranked.png").exists()


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path):
    with contextlib.closing(RunLog(tmp_path)) as log:
        log.write("first", value=1)
    with (tmp_path / "log.jsonl").open("a") as lines:
        lines.write('{"event": "seco')
    for _ in range(2):
        with contextlib.closing(RunLog(tmp_path)) as log:
            log.write("third")
    assert len(read_log(tmp_path, "first")) == 1
    assert len(read_log(tmp_path, "third")) == 2


def test_a_full_disk_leaves_the_old_checkpoint_whole(crops, tmp_path, monkeypatch):
    settings = parsed(crops, tmp_path / "cache", checkpoint_steps=3)
    real, written = checkpoint.whole, []

    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    @contextlib.contextmanager
    def whole_until_full(path):
        written.append(path.name)
        with real(path) as file:
            yield FullDisk(file) if written.count("last.ckpt") == 2 else file

    monkeypatch.setattr(checkpoint, "whole", whole_until_full)
    with pytest.raises(WorldError, match=r"last\.ckpt .* cannot be written: the disk is full"):
        run.start(settings, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").step == 3
    assert not list((tmp_path / "run").glob(".*.partial"))
    run.start(settings, tmp_path / "run", resume=True, quiet=True)


def test_a_damaged_checkpoint_is_refused(crops, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_bytes(b"half")
    with pytest.raises(DataError, match=r"last\.ckpt is damaged"):
        run.start(parsed(crops, tmp_path / "cache"), tmp_path / "run", resume=True, quiet=True)
