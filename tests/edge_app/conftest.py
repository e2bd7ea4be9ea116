"""Fixtures of the edge application's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_onnx import TinyOnnx


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> TinyOnnx:
    pytest.importorskip("onnx")
    return TinyOnnx(tmp_path)


@pytest.fixture
def ticking() -> Callable[[], Callable[[], float]]:
    """A clock that goes one second further each time it is read."""

    def make() -> Callable[[], float]:
        seconds = iter(range(1_000_000))
        return lambda: float(next(seconds))

    return make
