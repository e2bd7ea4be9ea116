"""Fixtures that the integration tests share."""

import pytest
from edge_commands import Group


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Commands of one test file, which run at the same time."""
    made = Group(tmp_path_factory.mktemp("commands"))
    yield made
    made.kill()
