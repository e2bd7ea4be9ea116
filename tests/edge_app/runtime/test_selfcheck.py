"""The golden crops accept the network they were made with and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_bundle

from edge_app.errors import ModelError
from edge_app.runtime import open_engine
from edge_app.runtime.engine import EngineSettings
from edge_app.runtime.selfcheck import self_check

GOLDEN = tiny_bundle.golden()


class Distorting:
    """An engine around another, with its outputs changed."""

    def __init__(self, engine, change) -> None:
        self.name, self.inputs, self.outputs = "distorting", engine.inputs, engine.outputs
        self.busy_s, self.runs = 0.0, 0
        self._engine, self._change = engine, change

    def run(self, batch):
        self.runs += 1
        return self._change(self._engine.run(batch))

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def engine(tiny_onnx):
    return open_engine(tiny_onnx.mean_colour(), EngineSettings())


def check(engine, golden=GOLDEN, max_crop_s=10.0, **options):
    return self_check(engine, tiny_bundle.INPUT, golden, max_crop_s, **options)


@pytest.mark.parametrize("batch", ["batch", 1, 2])
def test_the_right_network_passes(tiny_onnx, batch) -> None:
    found = check(open_engine(tiny_onnx.mean_colour(batch=batch), EngineSettings()))
    assert found.crops == 3
    assert found.cosine_min == pytest.approx(1, abs=1e-6)
    assert found.crop_s > 0
    assert "3 golden crops" in str(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda outputs: [outputs[0][:, ::-1]], "golden embeddings are wrong"),
        (lambda outputs: [outputs[0] * np.nan], "golden embeddings are wrong"),
        (lambda outputs: [outputs[0] * 0], "golden embeddings are wrong"),
        (lambda outputs: [outputs[0][:, :2]], r"it makes \(1, 2\), not \(1, 3\)"),
        (lambda outputs: [*outputs, *outputs], "it makes"),
        (lambda outputs: [np.roll(outputs[0], 1, axis=0)], "2 of 4|3 of 4"),  # right alone, wrong in a batch
    ],
)
def test_another_network_is_refused(engine, change, said) -> None:
    with pytest.raises(ModelError, match=said):
        check(Distorting(engine, change))


def test_tolerance_is_the_bundles(engine) -> None:
    noisy = Distorting(engine, lambda outputs: [outputs[0] * np.array([1.0, 1.15, 1.0])])
    worst = check(noisy, replace(GOLDEN, min_cosine=0.9)).cosine_min
    assert 0.98 < worst < 0.9999
    with pytest.raises(ModelError, match=r"needed is 0\.9999"):
        check(noisy, replace(GOLDEN, min_cosine=0.9999))


def test_too_slow_is_refused(engine, ticking) -> None:
    assert check(engine, max_crop_s=0.34, clock=ticking()).crop_s == pytest.approx(1 / 3)
    with pytest.raises(ModelError, match=r"333\.3 ms a crop, at most 300\.0 ms"):
        check(engine, max_crop_s=0.3, clock=ticking())
