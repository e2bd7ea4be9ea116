"""A filled store, one copy a test."""

from pathlib import Path

import pytest
from filled_store import copy, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "s.db"
    fill(path)
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    """A copy without the lock file: nothing but the database says whose it is."""
    copy(filled, tmp_path / "s.db")
    return tmp_path / "s.db"
