"""Whole runs of SCL on tiny crops, its stripes, and networks and sites it cannot run on."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
pytest.importorskip("faiss", reason="the trainer needs faiss")
pytest.importorskip("numba", reason="the trainer needs numba")
pytest.importorskip("onnx", reason="the trainer needs onnx")
pytest.importorskip("tensorboard", reason="the trainer needs tensorboard")

import cv2  # noqa: E402
from scl_oracles import ranked  # noqa: E402
from tiny_crops import picture, write_market  # noqa: E402
from tiny_networks import small_onnx  # noqa: E402
from torch.nn import functional  # noqa: E402

from trainer import checkpoint, config, run  # noqa: E402
from trainer.data.batch import Batch  # noqa: E402
from trainer.data.records import Crops  # noqa: E402
from trainer.errors import ConfigurationError, DataError  # noqa: E402
from trainer.methods.scl import SCL, SclSettings  # noqa: E402
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402
from trainer.models.stripes import StripeHeads, stripe_heads  # noqa: E402
from trainer.runlog import read_log  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "train"


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("crops"), identities=4, crops=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_onnx(tmp_path_factory.mktemp("network") / "small.onnx")


def parsed(root, cache, small, method=None, **changes):
    values = {
        "data": {"root": str(root), "cache": str(cache), "input": {"width_px": 8, "height_px": 16}},
        "model": {"backbone": "onnx", "weights": str(small), "ghost_group": 8, "pooling": "average"},
        "method": {
            "name": "scl",
            "stripes": 2,
            "positives": 2,
            "warmup_epochs": 1,
            "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"min_samples": 2}}},
            **(method or {}),
        },
        "optimiser": {"name": "sgd", "rate": 1e-2, "schedule": "constant"},
        "epochs": 2,
        "when_in_doubt": "train",
        "device": "cpu",
        **changes,
    }
    return config.parse(values, "test")


def assert_same(first, second):
    first, second = (checkpoint.load(folder / "last.ckpt") for folder in (first, second))
    assert first.network.keys() == second.network.keys()
    assert all(torch.equal(first.network[name], second.network[name]) for name in first.network)
    assert all(torch.equal(first.method[name], second.method[name]) for name in ("whole", "stripes", "mixture"))


@pytest.mark.parametrize("writeback", ["clean", "faithful"])
def test_two_epochs_and_a_resumed_run_is_the_same(crops, small, tmp_path, monkeypatch, writeback):
    settings = parsed(crops, tmp_path / "cache", small, {"writeback": writeback}, checkpoint_steps=2, average=0.9)
    run.start(settings, tmp_path / "whole", quiet=True)
    save, saved = checkpoint.save, []

    def save_and_stop(path, state):
        save(path, state)
        saved.append((state.epoch, state.step))
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run.start(settings, tmp_path / "stopped", quiet=True)
    assert saved[-1] == (1, 1), "in the middle of the epoch after warm-up"
    monkeypatch.undo()
    run.start(settings, tmp_path / "stopped", resume=True, quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert [line["positives"] for line in read_log(tmp_path / "whole", "epoch")] == [0, 2]
    assert read_log(tmp_path / "whole", "test")[-1]["camera_policy"] == "cross_camera"
    loaded = checkpoint.load_model(tmp_path / "whole" / "model.pt").network
    assert not [name for name in loaded.state_dict() if "heads" in name]


def test_a_batch_in_pieces_moves_the_banks_alike(crops, small, tmp_path):
    for name, count in (("whole", 1), ("pieces", 2)):
        settings = parsed(crops, tmp_path / "cache", small, {"batch": 16}, accumulate=count, seed=1)
        run.start(settings, tmp_path / name, quiet=True)
    first, second = (checkpoint.load(tmp_path / name / "last.ckpt").method for name in ("whole", "pieces"))
    for name in ("whole", "stripes", "mixture"):
        torch.testing.assert_close(first[name], second[name], atol=1e-3, rtol=0)


def test_a_site_without_camera_numbers(small, tmp_path):
    root, generator = tmp_path / "site", np.random.default_rng(0)
    root.mkdir()
    for number in range(13):
        cv2.imwrite(str(root / f"{number}.png"), picture(number % 3, 0, generator))
    run.start(parsed(root, tmp_path / "cache", small), tmp_path / "run", quiet=True)
    assert [line["camera_weight"] for line in read_log(tmp_path / "run", "epoch")] == [0, 0]
    few = {"positives": 12}
    with pytest.raises(DataError, match=r"13 crops, but a batch of 8 and 12 positives .* at least 14"):
        run.start(parsed(root, tmp_path / "cache", small, few), tmp_path / "few", quiet=True)


def network(small):
    return new_embedder(blueprint_of(ModelSettings(backbone="onnx", weights=small, unfold_batch_norm=False), (16, 8)))


def made(small, count=20, **changes):
    records = Crops((Path("x"),) * count, np.arange(count) % 3 - 1, np.full(count, np.nan), np.full(count, -1))
    return SCL(network(small), records, SclSettings(stripes=2, positives=3, warmup_epochs=1, **changes), 5)


def batches_of(method, epoch):
    plan = method.start_epoch(epoch, lambda: None)
    for numbers in plan.batches:
        index = torch.from_numpy(numbers)
        images = torch.rand(len(index), 3, 16, 8, generator=torch.Generator().manual_seed(int(index[0])))
        yield Batch(index, method.cameras[index], torch.from_numpy(plan.labels)[index], (images,))


def test_banks_move_after_the_step_only_and_every_crop_is_seen(small):
    method = made(small)
    for batch in batches_of(method, 0):
        before = {name: value.clone() for name, value in method.state().items() if isinstance(value, torch.Tensor)}
        assert len(batch.index.unique()) == len(batch.index) == 8
        assert torch.equal(batch.label, batch.index)
        out = method.forward(batch)
        sum(method.losses(out, batch).values()).backward()
        assert all(torch.equal(method.state()[name], value) for name, value in before.items())
        assert out.keys.shape == (8, 20)
        method.after_step(out, batch)
        untouched = torch.ones(20, dtype=torch.bool)
        untouched[batch.index] = False
        assert all(torch.equal(method.state()[name][untouched], value[untouched]) for name, value in before.items())
        torch.testing.assert_close(out.stripes.norm(dim=1), torch.full((8,), 2**0.5))
    for rows, length in ((method.whole, 1), (method.stripes, 2**0.5), (method.mixture, 1)):
        torch.testing.assert_close(rows.norm(dim=1), torch.full((20,), float(length)))
    assert all(parameter.grad is not None for parameter in method.trained().parameters() if parameter.requires_grad)


def test_the_ranking_of_a_step_is_the_plain_loop_and_in_warmup_random(small):
    method = made(small, negatives=9)
    warm = {}
    for step, batch in enumerate(batches_of(method, 0)):
        out = method.forward(batch)
        warm[step] = out.keys
        method.after_step(out, batch)
    assert not torch.equal(warm[0][:, 1:], warm[1][:, 1:])
    batch = next(batches_of(method, 1))
    out = method.forward(batch)
    assert out.keys.shape == (8, 13)
    banks = method.whole, method.stripes, method.cameras
    for row, own in enumerate(batch.index.tolist()):
        crop = out.whole[row].detach(), out.stripes[row].detach(), batch.camera[row]
        nearest, (first, rest) = ranked(crop, banks, own, method.settings)[:12], out.keys[row].split([4, 9])
        assert first.tolist() == [own, *nearest[:3]]
        assert sorted(rest.tolist()) == sorted(nearest[3:])


@pytest.mark.parametrize(("height", "parts"), [(6, [(0, 2), (2, 4), (4, 6)]), (7, [(0, 3), (2, 5), (4, 7)])])
def test_stripes_are_a_linear_layer_and_a_norm_each(height, parts):
    heads, maps = StripeHeads(6, 3), torch.randn(5, 6, height, 2)
    found = heads(maps).view(5, 3, 2)
    for stripe, (top, bottom) in enumerate(parts):
        rows = maps[:, :, top:bottom].mean((2, 3)) @ heads.weight[stripe]
        expected = functional.normalize(functional.batch_norm(rows, None, None, training=True), dim=1)
        torch.testing.assert_close(found[:, stripe], expected)


def test_networks_without_a_map_or_with_too_low_a_one(small):
    vit = ModelSettings(backbone="vit_tiny_patch16_224")
    with pytest.raises(ConfigurationError, match="vit_tiny_patch16_224 pools by itself"):
        stripe_heads(new_embedder(blueprint_of(vit, (32, 32))), 2)
    with pytest.raises(ConfigurationError, match=r"9 stripes, but onnx gives 8 rows for 16 px of height(.|\n)*divide"):
        stripe_heads(network(small), 9)
    with pytest.raises(ConfigurationError, match=r"4 must divide the 6 channels"):
        stripe_heads(network(small), 4)


@pytest.mark.parametrize("name", ["market1501", "veri776", "site"])
def test_configurations(name):
    settings = config.load(CONFIGS / f"scl-{name}.yaml")
    assert isinstance(settings.method, SclSettings)
    assert (settings.model.ghost_group, settings.optimiser.name) == (settings.method.batch, "sgd")
    assert settings.method.augment.flip == 0.5
