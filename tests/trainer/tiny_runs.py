"""Settings of runs on tiny crops, and what such runs leave."""

from pathlib import Path
from typing import Any

import torch

from trainer import checkpoint, config


def settings_of(root: Path, cache: Path, **changes: Any) -> dict[str, Any]:
    """Plain values of a Cluster-Contrast run; `a__b=value` changes the value b of the group a."""
    values: dict[str, Any] = {
        "data": {"root": str(root), "cache": str(cache), "input": {"width_px": 16, "height_px": 32}},
        "model": {"backbone": "osnet_x0_25", "ghost_group": 4, "pooling": "average"},
        "method": {
            "name": "cluster_contrast",
            "labels": {"clustering": {"jaccard": {"k1": 8, "k2": 3}, "dbscan": {"eps": 0.6, "min_samples": 2}}},
            "sampler": {"clusters": 2, "crops": 4, "steps": 4},
            "augment": {"pad_px": 1, "erase": 0.2},
        },
        "epochs": 2,
        "device": "cpu",
        "average": 0.9,
        "when_in_doubt": "train",  # networks of random weights learn nothing in eight steps
    }
    for key, value in changes.items():
        place = values
        *parents, last = key.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return values


def parsed(root: Path, cache: Path, **changes: Any) -> config.TrainSettings:
    return config.parse(settings_of(root, cache, **changes), "test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_model(folder / "model.pt").network.state_dict()


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def log_every_step() -> None:
    """For `children.Child`: the log gets the losses of all steps."""
    import trainer.train

    trainer.train.LOG_STEPS = 1


def shallow(weights: Path) -> dict[str, Any]:
    """Changes of the settings to `tiny_networks.small_onnx` and plain gradient steps, in which rounding errors stay
    small: batch norm in a deep network over few crops blows them up, and Adam turns them into steps of full length."""
    return {
        "model": {"backbone": "onnx", "weights": str(weights), "ghost_group": 16, "pooling": "average"},
        "data__input": {"width_px": 8, "height_px": 16},
        "optimiser": {"name": "sgd", "rate": 1e-3},
        "method__temperature": 0.5,
        "method__momentum": 0.5,
    }
