"""The endpoint's port may be taken: that is said, tried again, and no reason to stop."""

import socket
import time
import urllib.request

import pytest

from edge_app import listening
from edge_app.errors import WorldError
from edge_app.health.health import Health, HealthSettings
from edge_app.health.prometheus import PrometheusEndpoint, check_port
from edge_app.store.store import Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "s.db")
    yield opened
    opened.close()


def test_a_port_that_is_taken_is_named_and_tried_again(store, monkeypatch):
    monkeypatch.setattr(listening, "TRY_AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = HealthSettings(prometheus_port=other.getsockname()[1])
        endpoint = PrometheusEndpoint(settings, Health(["north"]), store)
        assert f"cannot listen on 127.0.0.1:{settings.prometheus_port}" in endpoint.problem
        with pytest.raises(WorldError, match="cannot listen"):
            check_port(settings)
        said = endpoint.problem
        time.sleep(0.2)
        assert endpoint.problem == said
    until_s = time.monotonic() + 5
    while endpoint.problem is not None:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=10) as answer:
            assert b"crosslane_node_ok 1.0" in answer.read()
        assert "a node is serving there" in check_port(settings)
    finally:
        endpoint.close()
    assert check_port(settings).endswith("is free")


def test_closing_while_the_port_is_taken_takes_no_time(store):
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = PrometheusEndpoint(HealthSettings(prometheus_port=other.getsockname()[1]), Health(["n"]), store)
        began_s = time.monotonic()
        endpoint.close()
    assert time.monotonic() - began_s < 1.0
