"""What tests of engines share."""

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.engine").write_bytes(b"engine")
    return tmp_path / "x.engine"
