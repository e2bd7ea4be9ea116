"""Sites of any size through a real broker: pages of retained messages, and a mistake that costs itself alone."""

import itertools
import time
from functools import partial

import pytest
from hands import Hands

from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.bus import MqttSettings
from edge_app.contract.envelope import uuid7
from edge_app.contract.messages import Birth, CameraState, Health, Match
from edge_app.contract.samples import golden_samples
from edge_app.delivery.outgoing import Letterhead, birth_message
from edge_app.delivery.publish import Publisher
from edge_app.health.health import Health as Counts
from edge_app.store.store import Store

SAMPLES = golden_samples()
YEARS_S = 25 * 365 * 86400.0


class Node:
    def __init__(self, folder, port):
        self.hands = Hands(wall_s=time.time())
        self.store = Store(folder / "s.db", self.hands.clock())
        clock = self.hands.clock()
        self.letterhead = Letterhead("demo", "edge-1", self.store.boot_id, clock_state=lambda: clock.state)
        settings = MqttSettings(host="127.0.0.1", port=port, reconnect_min_s=0.1, backlog_per_s=1000.0)
        self.publisher = Publisher(self.store, settings, self.letterhead, clock.wall)

    def say(self, count=1):
        for number in range(count):
            event = uuid7(time.time(), f"{number} {time.time()}".encode())
            message = SAMPLES["match"].model_copy(update={"event_id": event, "seq": next(self.letterhead.numbers)})
            self.store.commit({}, self.letterhead.rows([message]))

    def close(self):
        self.publisher.close()
        self.store.close()


@pytest.fixture
def node(tmp_path, mosquitto):
    made = Node(tmp_path, mosquitto.port)
    yield made
    made.close()


def hold_birth(node, ids, ways):
    links = [LinkSettings(from_camera=a, to_camera=b, transit=TransitSettings(min_s=1, max_s=90)) for a, b in ways]
    birth = birth_message(node.letterhead, {camera: ["gate"] for camera in ids}, links, ("d", ["car"]), time.time())
    pages = node.letterhead.pages(birth)
    for page in pages:
        node.publisher.hold(page)
    return pages


@pytest.mark.parametrize(
    ("cameras", "ways"),
    [(12, partial(itertools.permutations, r=2)), (40, itertools.pairwise), (150, itertools.pairwise)],
)
def test_a_large_site_says_what_it_is_and_its_facts_leave(node, mosquitto, subscribe, cameras, ways):
    """In 0.1 its own encoder refused the birth (18 to 24 kB) and the publisher connected anew for ever."""
    ids = [f"camera-{number}-{'x' * 20}" for number in range(cameras)]
    pages = hold_birth(node, ids, ways(ids))
    assert len(pages) > 1 or cameras == 40
    node.publisher.start()
    node.say(5)
    assert node.publisher.flush(20)
    late = subscribe(mosquitto.port)  # what a dashboard gets that comes later: everything retained
    late.wait(lambda seen: len(seen.of(Birth)) == len(pages))
    assert {page.page for page in late.of(Birth)} == set(range(1, len(pages) + 1))
    assert sorted(camera.camera for page in late.of(Birth) for camera in page.cameras) == sorted(ids)
    assert mosquitto.log().count("New client connected") == 2  # the node once, and the dashboard


def test_a_retained_message_that_no_broker_would_take_is_left_out_and_counted(node, subscribe, mosquitto):
    subscriber = subscribe(mosquitto.port)
    huge = SAMPLES["birth"].model_copy(update={"software": "x" * 20_000})  # not validated, as a bug would make it
    node.publisher.hold(huge)
    node.publisher.hold(SAMPLES["camera_state"])
    node.publisher.start()
    assert node.publisher.await_answer(10)
    node.publisher.send(SAMPLES["health"].model_copy(update={"counters": {f"{i}": i for i in range(9000)}}))
    node.publisher.send(SAMPLES["health"])
    node.say(3)
    assert node.publisher.flush(20)
    subscriber.wait(lambda seen: len(seen.of(Match)) == 3 and seen.of(CameraState) and seen.of(Health))
    assert subscriber.of(Birth) == []
    assert len(subscriber.of(Health)) == 1
    assert node.letterhead.refusals.total == 2
    (gap,) = node.letterhead.account(time.time())
    assert gap.kind == "gap"
    assert node.publisher.status.problem is None


def test_the_heartbeat_of_two_hundred_cameras_arrives(node, subscribe, mosquitto):
    subscriber = subscribe(mosquitto.port)
    counts = Counts([f"camera-{number}-{'x' * 20}" for number in range(200)])
    node.publisher.start()
    assert node.publisher.await_answer(10)
    for page in node.letterhead.pages(counts.heartbeat(node.letterhead, node.store, time.time())):
        node.publisher.send(page)
    subscriber.wait(lambda seen: sum(len(page.cameras) for page in seen.of(Health)) == 200)
    assert len(subscriber.of(Health)) == subscriber.of(Health)[0].pages > 1


@pytest.mark.parametrize("by_s", [YEARS_S, -3600.0])
def test_a_clock_that_is_set_makes_nothing_historical_and_new_messages_suspect(node, subscribe, mosquitto, by_s):
    """In 0.1 everything queued before NTP answered counted as years old: paced, and marked as a backlog."""
    subscriber = subscribe(mosquitto.port)
    node.publisher.start()
    assert node.publisher.await_answer(10)
    node.say()
    node.hands.set(by_s)
    node.say(20)
    assert node.publisher.flush(20)
    subscriber.wait(lambda seen: len(seen.of(Match)) == 21)
    assert not any(message.historical for message in subscriber.of(Match))
    node.publisher.set_state("online")
    subscriber.wait(lambda seen: any(message.clock_state == "suspect" for message in seen.messages))
