"""The node tells how it is, through a broker, without the pipeline's help."""

import time
from dataclasses import replace

from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.bus import MqttSettings
from edge_app.contract.messages import Birth, CameraState, NodeState
from edge_app.contract.messages import Health as HealthMessage
from edge_app.delivery.outgoing import Letterhead, birth_message
from edge_app.delivery.publish import Publisher
from edge_app.demo.broker import EmbeddedBroker
from edge_app.health.health import Health, HealthSettings
from edge_app.health.heartbeat import Heartbeat
from edge_app.sources.status import CameraStatus
from edge_app.store.store import Store

FINE = CameraStatus("north", "ok", 10, 1, 0, 0, 10.0, 1.0, None)


def test_cameras_node_and_heartbeat(subscribe, tmp_path):
    link = LinkSettings(from_camera="north", to_camera="south", transit=TransitSettings(min_s=2, max_s=20))
    with EmbeddedBroker() as broker:
        store, health = Store(tmp_path / "s.db"), Health(["north"], tmp_path)
        letterhead = Letterhead("demo", "edge-1", store.boot_id)
        publisher = Publisher(store, MqttSettings(host="127.0.0.1", port=broker.port, protocol="3.1.1"), letterhead)
        publisher.hold(birth_message(letterhead, {"north": ["gate"]}, [link], ("yolo", ["car"]), time.time()))
        statuses, problem = {"north": FINE}, []
        heartbeat = Heartbeat(
            HealthSettings(interval_s=0.3), health, publisher, store,
            cameras=lambda: statuses, problem=lambda: problem[0] if problem else None,
        )  # fmt: skip
        subscriber = subscribe(broker.port, "3.1.1")
        publisher.start()
        publisher.await_answer(10)
        health.processed(["north"] * 10)
        heartbeat.start()
        subscriber.wait(lambda seen: len(seen.of(HealthMessage)) >= 2 and seen.of(CameraState) and seen.of(Birth))
        statuses["north"] = replace(FINE, state="stalled", last_error="no frame for 3 s")
        subscriber.wait(lambda seen: len(seen.of(CameraState)) == 2, timeout_s=5)
        statuses["north"] = FINE
        subscriber.wait(lambda seen: len(seen.of(CameraState)) == 3, timeout_s=5)
        health.pace.over()
        problem.append("the disk is full")
        subscriber.wait(lambda seen: seen.of(NodeState)[-1].reason == "the disk is full", timeout_s=5)
        heartbeat.close()
        publisher.close()
        subscriber.wait(lambda seen: seen.of(NodeState)[-1].state == "offline")
        subscriber.close()
        store.close()
    assert [(m.state, m.reason) for m in subscriber.of(CameraState)] == [
        ("ok", None), ("stalled", "no frame for 3 s"), ("ok", None)
    ]  # fmt: skip
    assert [m.state for m in subscriber.of(NodeState)] == ["online", "degraded", "online", "degraded", "offline"]
    assert subscriber.of(HealthMessage)[0].cameras[0].frames == 10
    assert subscriber.of(Birth)[0].links[0].link == "north--south"
