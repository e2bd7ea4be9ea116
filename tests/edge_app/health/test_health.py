"""Health: honest percentiles in bounded memory, a heartbeat that validates, an endpoint Prometheus can read."""

import io
import json
import logging
import urllib.request

import numpy as np
import pytest

from edge_app.contract.topics import encode, topic_of
from edge_app.delivery.outgoing import Letterhead
from edge_app.health.health import Health, HealthSettings, Latencies, temperatures_celsius
from edge_app.health.prometheus import PrometheusEndpoint
from edge_app.logs import LogSettings, configure
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store

LETTERHEAD = Letterhead("demo", "edge-1", "1")


def status(dropped=0, corrupt=0, falls=0):
    return CameraStatus("north", "ok", 10, dropped, 0, corrupt, 10.0, 1.0, None, falls=falls)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "s.db")
    yield opened
    opened.close()


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_percentiles_agree_with_numpy_within_five_percent(share):
    durations_s = np.random.default_rng(3).lognormal(-4, 1.0, 5000)
    latencies = Latencies()
    for duration_s in durations_s:
        latencies.add(float(duration_s))
    assert latencies.percentile(share) == pytest.approx(np.quantile(durations_s, share), rel=0.05)
    assert latencies.total_s == pytest.approx(durations_s.sum())


def test_extreme_durations_stay_in_the_table():
    latencies = Latencies()
    assert latencies.percentile(0.5) == 0.0
    for duration_s in (0.0, -1.0, 1e-9, 1e9):
        latencies.add(duration_s)
    assert latencies.n == sum(latencies.counts) == 4


def test_heartbeat_tells_what_happened_since_the_last_one(store, validate):
    health = Health(["north", "south"], disk=store.path.parent)
    assert health.see("north", ("ok", None), status(dropped=10, corrupt=4, falls=2))
    assert not health.see("north", ("ok", None), status(dropped=10, corrupt=4, falls=2))
    health.stands_at("put_aside", 7)
    for _ in range(5):
        health.processed(["north"])
    for _ in range(5):
        with health.stage("detect"):
            pass
    health.count("crops_shed", 3)
    first = health.heartbeat(LETTERHEAD, store, 1_790_000_000.0)
    validate(topic_of(first, "demo"), encode(first))
    assert [(c.corrupt, c.falls) for c in first.cameras] == [(4, 2), (0, 0)]
    assert [(c.camera, c.state, c.frames, c.frames_dropped) for c in first.cameras] == [
        ("north", "ok", 5, 10),
        ("south", "offline", 0, 0),
    ]
    assert first.cameras[0].fps > 0
    assert [(s.stage, s.n) for s in first.stages] == [("detect", 5)]
    assert first.counters == {"crops_shed": 3, "camera_state_changes": 0, "put_aside": 7}
    assert (first.outbox_depth, first.outbox_oldest_unsent_s) == (0, None)
    assert first.disk_free_bytes
    assert first.memory_rss_bytes
    second = health.heartbeat(LETTERHEAD, store, 1_790_000_030.0)
    assert second.stages == ()
    assert second.cameras[0].fps == 0
    assert second.cameras[0].frames == 5


def scraped(health, store):
    """What Prometheus would read."""
    endpoint = PrometheusEndpoint(HealthSettings(prometheus_port=0), health, store)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=10) as answer:
            return answer.read().decode()
    finally:
        endpoint.close()


def test_prometheus_reads_the_same_numbers(store):
    health = Health(["north"])
    health.see("north", ("ok", None), status())
    health.processed(["north"])
    health.took("detect", 0.01)
    health.count("crops_shed", 3)
    text = scraped(health, store)
    assert 'crosslane_frames_total{camera="north"} 1.0' in text
    assert 'crosslane_stage_seconds_count{stage="detect"} 1.0' in text
    assert 'crosslane_stage_seconds_bucket{le="0.0128",stage="detect"} 1.0' in text
    assert 'crosslane_stage_seconds_bucket{le="0.0064",stage="detect"} 0.0' in text
    assert 'crosslane_events_total{event="crops_shed"} 3.0' in text
    assert "crosslane_outbox_depth 0.0" in text


def test_crops_are_counted_and_what_waits_is_told_beside(store):
    health = Health(["north"])
    for n in (3, 5):
        health.collects({"crops_kept": n}, {"crop_spool_bytes": 1000 * n})
    counters = health.heartbeat(LETTERHEAD, store, 1.0).counters
    assert counters == {"camera_state_changes": 0, "crops_kept": 5, "crop_spool_bytes": 5000}
    text = scraped(health, store)
    assert 'crosslane_events_total{event="crops_kept"} 5.0' in text
    assert 'crosslane_waiting{what="crop_spool_bytes"} 5000.0' in text
    assert 'crosslane_events_total{event="crop_spool' not in text, "what falls is no counter"


def test_thermal_zones_that_cannot_be_read_are_left_out(tmp_path):
    for name, kind, value in [
        ("thermal_zone0", "cpu", "54500"),
        ("thermal_zone1", "cpu", "50000"),
        ("thermal_zone2", "gpu", "x"),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(kind + "\n")
        (tmp_path / name / "temp").write_text(value)
    assert temperatures_celsius(tmp_path) == {"cpu": 54.5, "cpu-thermal_zone1": 50.0}
    assert temperatures_celsius(tmp_path / "none") == {}


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before


def test_json_lines_hold_one_object_each(root_logger):
    stream = io.StringIO()
    configure(LogSettings(format="json"), stream)
    logging.getLogger("edge_app.x").warning("camera %s:\nlost", "north", extra={"camera": "north"})
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("edge_app.x").exception("failed")
    logging.getLogger("edge_app.x").debug("not shown")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["camera"], first["level"]) == ("camera north:\nlost", "north", "WARNING")
    assert first["time"].endswith("Z")
    assert "ValueError: bad" in second["exception"]


def test_plain_text_is_one_line_without_the_package_name(root_logger):
    stream = io.StringIO()
    configure(LogSettings(), stream)
    logging.getLogger("edge_app.delivery.publish").warning("broker away")
    assert stream.getvalue().endswith("Z WARNING delivery.publish: broker away\n")
