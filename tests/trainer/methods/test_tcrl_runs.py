"""Whole runs of TCRL on tiny crops: its options, resuming, what is left of it without its terms, and its inputs."""

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "onnx", "tensorboard"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

import numpy as np  # noqa: E402
from tiny_crops import write_market  # noqa: E402

from trainer import checkpoint, config, run  # noqa: E402
from trainer.data.loader import Chances, Loader  # noqa: E402
from trainer.parallel import ALONE  # noqa: E402
from trainer.runlog import read_log  # noqa: E402


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"))


def parsed(root, cache, name="tcrl", **method):
    shared = {
        "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"eps": 0.6, "min_samples": 2}}},
        "sampler": {"clusters": 2, "crops": 4, "steps": 4},
        "augment": {"pad_px": 1, "erase": 0.2},
    }
    values = {
        "data": {"root": str(root), "cache": str(cache), "input": {"width_px": 16, "height_px": 32}},
        "model": {"backbone": "osnet_x0_25", "ghost_group": 4, "pooling": "average"},
        "method": {"name": name, **shared, **method},
        "epochs": 2,
        "when_in_doubt": "train",
        "device": "cpu",
        "checkpoint_steps": 3,
    }
    return config.parse(values, "test")


def stop_at_save(monkeypatch, number):
    """The run ends right after its n-th checkpoint."""
    save, left = checkpoint.save, [number]

    def save_and_stop(path, state):
        save(path, state)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)


def same_networks(first, second):
    one, two = (checkpoint.load(folder / "last.ckpt").network for folder in (first, second))
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="default"),
        pytest.param(
            {"hcl": "mean", "pcl_whole": 0, "weight_temperature": 0.8, "cluster_update": "sequential"},
            id="alternatives",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_run_and_the_same_run_resumed_inside_its_second_epoch(crops, tmp_path, monkeypatch, changes):
    chosen = parsed(crops, tmp_path / "cache", **changes)
    run.start(chosen, tmp_path / "whole", quiet=True)
    assert [line["clusters"] >= 2 for line in read_log(tmp_path / "whole", "epoch")] == [True, True]
    stop_at_save(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        run.start(chosen, tmp_path / "stopped", quiet=True)
    monkeypatch.undo()
    kept = checkpoint.load(tmp_path / "stopped" / "last.ckpt")
    assert (kept.epoch, kept.step) == (1, 2)
    run.start(chosen, tmp_path / "stopped", resume=True, quiet=True)
    assert same_networks(tmp_path / "whole", tmp_path / "stopped")
    whole, stopped = (checkpoint.load(tmp_path / name / "last.ckpt").method for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in ("clusters", "whole", "part", "classes"))
    assert len(whole["part"]) == 54  # every crop has a row, outliers too
    assert not torch.equal(whole["part"], whole["whole"])


@pytest.mark.long
def test_without_its_terms_it_is_cluster_contrast(crops, tmp_path):
    nothing = {"hcl_whole": 0, "hcl_part": 0, "pcl_whole": 0, "pcl_part": 0}
    plain = {"weight_temperature": None, "cluster_update": "sequential"}
    run.start(parsed(crops, tmp_path / "cache", **nothing, **plain), tmp_path / "tcrl", quiet=True)
    run.start(parsed(crops, tmp_path / "cache", "cluster_contrast"), tmp_path / "base", quiet=True)
    assert same_networks(tmp_path / "tcrl", tmp_path / "base")
    first, second = (checkpoint.load(tmp_path / name / "last.ckpt").method for name in ("tcrl", "base"))
    assert torch.equal(first["clusters"], second["memory"])


@pytest.mark.parametrize("sides", [[], [0.3, 0.3]])
def test_the_part_bank_of_masked_pictures(crops, tmp_path, sides):
    """Rows of M^P are features of the covered pictures, the same whatever the blocks they are computed in, and other
    ones in another epoch."""
    options = {"mask": {"sides": sides}}
    session = run.Session(parsed(crops, tmp_path / "cache", **options), tmp_path / "run", ALONE, None, quiet=True)
    session.log.close()
    method, shown = session.method, []

    def extract(*view_and_seed):
        shown.append(view_and_seed)
        return session.extract(*view_and_seed)

    for epoch in (0, 0, 1):
        method.start_epoch(epoch, extract)
        assert torch.equal(method.whole.rows, torch.from_numpy(session.extract()))
        assert torch.equal(method.part.rows, torch.from_numpy(session.extract(*shown[-1])))
        assert torch.equal(method.part.rows, method.whole.rows) == (not sides)
    assert [len(one) for one in shown] == [0, 2] * 3
    assert shown[1][1] == shown[3][1] != shown[5][1]
    few = session.settings.extraction.model_copy(update={"batch": 5})
    session.settings = session.settings.model_copy(update={"extraction": few})
    np.testing.assert_allclose(session.extract(*shown[-1]), method.part.rows, atol=1e-5)


def test_without_squares_parts_are_the_whole(crops, tmp_path):
    """The loader's two views are one, and so are u^P and u^G where batch norm sees the same pictures."""
    options = {"mask": {"sides": []}, "augment": {"pad_px": 1, "erase": 0}}
    session = run.Session(parsed(crops, tmp_path / "cache", **options), tmp_path / "run", ALONE, None, quiet=True)
    method = session.method
    plan = method.start_epoch(0, session.extract)
    loader = Loader(session.crops, Chances(method.views(), session.settings.data.input, 0), ALONE)
    batch = next(iter(loader.batches(0, plan)))
    session.log.close()
    assert torch.equal(*batch.views)
    method.embedder().eval()
    out = method.forward(batch)
    torch.testing.assert_close(out.whole, out.part)
    assert np.array_equal(plan.labels[batch.index], batch.label)
    close = (out.whole.detach() * method.whole.rows[batch.index]).sum(1)
    assert close.mean() > 0.5  # a row of the bank is the same crop, but for flip and shift
