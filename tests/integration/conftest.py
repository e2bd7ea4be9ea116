"""Fixtures that the integration tests share."""

import pytest
from broker_node import Node
from edge_commands import Group


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Commands of one test file, which run at the same time."""
    made = Group(tmp_path_factory.mktemp("commands"))
    yield made
    made.kill()


@pytest.fixture
def node(tmp_path):
    """`node(port, protocol, **settings)` makes a store and a publisher, which the test starts."""
    made: list[Node] = []

    def make(port, protocol="auto", **settings):
        made.append(Node(tmp_path / f"node-{len(made)}", port, protocol, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
