"""CUDA graphs of small batches, on fakes of the driver and of TensorRT; its six calls against the real header."""

import sys
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import SIZE, FakeCuda, FakeDriver, FakeEngine, fake_trt

from edge_app.runtime.tensorrt import Libraries, TensorrtEngine


class Stopwatch:
    """Time that passes with each launch of layers (9 each) and of graphs (1 each)."""

    def __init__(self, fake, driver, graph_s=1.0) -> None:
        self.fake, self.driver, self.graph_s = fake, driver, graph_s

    def __call__(self):
        return 9.0 * len(self.fake.sizes) + self.graph_s * self.driver.launched


def with_graphs(file, largest, graph_s=1.0, name="tensorrt", errors=None, **options):
    cuda = FakeCuda()
    fake, driver = FakeEngine(cuda, **options), FakeDriver(cuda, **(errors or {}))
    libraries = Libraries(fake_trt(fake, name), cuda, driver)
    return TensorrtEngine(file, libraries, Stopwatch(fake, driver, graph_s), largest), fake, driver


@pytest.mark.parametrize(("largest", "options", "recorded"), [(2, {}, 2), (9, {}, 4), (1, {"batch": 4}, 1)])
def test_small_batches_run_as_graphs_and_say_the_same(file, largest, options, recorded) -> None:
    engine, fake, driver = with_graphs(file, largest, **options)
    assert len(driver.graphs) == recorded  # executables; the recordings are gone
    assert fake.contexts == 1 + recorded
    images = np.random.default_rng(0).random((7, *SIZE), np.float32)
    before, launched = len(fake.sizes), driver.launched
    for count in (1, 2, 3, 4, 7):
        mean, twice = engine.run(images[:count])
        np.testing.assert_allclose(mean, images[:count].mean(axis=(2, 3)), rtol=1e-5)
        np.testing.assert_allclose(twice, 2 * mean, rtol=1e-6)
    runs = 6  # the last one is two
    assert (driver.launched - launched) + (len(fake.sizes) - before) == runs
    assert driver.launched - launched == (2 if recorded == 2 else runs)
    engine.close()
    assert not driver.graphs


def test_a_graph_that_is_no_faster_is_not_kept(file) -> None:
    engine, _, driver = with_graphs(file, 4, graph_s=20.0)
    launched = driver.launched
    assert not driver.graphs
    engine.run(np.zeros((1, *SIZE), np.float32))
    assert driver.launched == launched


@pytest.mark.parametrize("name", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_where_nothing_can_be_recorded_it_runs_without(file, name, caplog) -> None:
    engine, _, driver = with_graphs(file, 4, errors={name: 900})
    assert f"no CUDA graphs from batches of 1 on: {name} failed with the driver's error 900" in caplog.text
    images = np.random.default_rng(0).random((3, *SIZE), np.float32)
    np.testing.assert_allclose(engine.run(images)[0], images.mean(axis=(2, 3)), rtol=1e-5)
    assert driver.launched == 0


def test_tensorrt_rtx_records_by_itself(file) -> None:
    engine, fake, driver = with_graphs(file, 4, name="tensorrt_rtx")
    assert fake.config.cuda_graph_strategy == "whole graph"
    assert (fake.contexts, driver.launched) == (1, 0)
    engine.run(np.zeros((1, *SIZE), np.float32))
    assert with_graphs(file, 0, name="tensorrt_rtx")[1].config is None


def test_the_drivers_calls_are_those_of_its_header() -> None:
    """Against cuda.h, which CUDA builds of torch bring along."""
    headers = [Path(each) / "nvidia/cu13/include/cuda.h" for each in sys.path]
    header = next((each for each in headers if each.is_file()), None)
    if header is None:
        pytest.skip("no cuda.h here (it comes with CUDA builds of torch)")
    text = " ".join(header.read_text(encoding="utf-8", errors="replace").split())
    declared = {
        "cuStreamBeginCapture": "CUstream hStream, CUstreamCaptureMode mode",
        "cuStreamEndCapture": "CUstream hStream, CUgraph *phGraph",
        "cuGraphInstantiate": "CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags",
        "cuGraphLaunch": "CUgraphExec hGraphExec, CUstream hStream",
        "cuGraphExecDestroy": "CUgraphExec hGraphExec",
        "cuGraphDestroy": "CUgraph hGraph",
    }
    for name, arguments in declared.items():
        assert f"CUresult CUDAAPI {name}({arguments});" in text
    assert "#define cuStreamBeginCapture __CUDA_API_PTSZ(cuStreamBeginCapture_v2)" in text
    assert "#define cuGraphInstantiate cuGraphInstantiateWithFlags" in text
    assert "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1" in text
