"""The plain loops that the benchmark is measured against do the same step: loss, gradient and memory."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch")
for library in ("faiss", "numba", "onnx", "tensorboard"):
    pytest.importorskip(library, reason=f"the trainer needs {library}")

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import method_steps  # noqa: E402
import plain_steps  # noqa: E402

from trainer.data.records import Crops  # noqa: E402
from trainer.methods.table import METHODS, class_of  # noqa: E402
from trainer.models.embedder import ModelSettings, blueprint_of, new_embedder  # noqa: E402

COUNT, CAMERAS = 192, 3


@pytest.fixture(scope="module")
def problem():
    network = new_embedder(blueprint_of(ModelSettings(backbone="osnet_x0_25", pooling="average"), (128, 16)))
    paths = tuple(Path(f"{number}.png") for number in range(COUNT))
    cameras = np.random.default_rng(0).integers(0, CAMERAS, COUNT)
    crops = Crops(paths, cameras, np.full(COUNT, np.nan), np.full(COUNT, -1))
    return method_steps.Problem(network, crops, steps=1)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_plain_step_is_the_same_step(problem, name):
    chosen = method_steps.settings_of(name).method
    if name == "scl":  # the gradient of released code, in which terms write before others read
        chosen = chosen.model_copy(update={"writeback": "faithful"})
    given = method_steps.Given(problem.network, method_steps.BATCH)
    torch.manual_seed(0)  # SCL's heads
    first = class_of(name)(given, problem.crops, chosen, 0)
    plan = first.start_epoch(5, lambda *_: method_steps.features_of(COUNT, problem.network.dimension))
    batch = method_steps.batches_of(plan.batches[:1], plan.labels, problem, len(first.views()))[0]
    first.load_state(method_steps.filled(first.state()))
    torch.manual_seed(0)
    second = class_of(name)(given, problem.crops, chosen, 0)
    second.load_state({key: part.clone() if torch.is_tensor(part) else part for key, part in first.state().items()})

    out = first.forward(batch)
    loss = sum(first.losses(out, batch).values())
    loss.backward()
    gradient, given.given.grad = given.given.grad, None
    first.after_step(out, batch)
    slow = plain_steps.STEPS[name](second, batch)
    slow.backward()

    torch.testing.assert_close(slow, loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given.given.grad, gradient, rtol=1e-3, atol=1e-6)
    for key, part in first.state().items():
        if torch.is_tensor(part):
            torch.testing.assert_close(second.state()[key], part, rtol=1e-4, atol=1e-5, msg=key)


def test_a_method_is_timed(problem):
    row = method_steps.measure("cluster_contrast", problem)
    assert row["ratio"] == row["plain_s"] / row["ours_s"]
    assert row["overhead"] == row["own_s"] / row["network_s"] > 0
    assert (row["crops"], row["labels"], row["memory_bytes"]) == (COUNT, 12, 4 * 12 * problem.network.dimension)
