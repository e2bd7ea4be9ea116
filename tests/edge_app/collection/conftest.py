"""A spool on a real store, and shards that wait for a real folder."""

import pytest
from spool_disk import Disk
from waiting_shards import Waiting


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


@pytest.fixture
def waiting(tmp_path):
    return Waiting(tmp_path / "spool")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"
