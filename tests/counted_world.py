"""Passages, matches and aggregates under a clock that ticks once a second, for tests."""

import numpy as np

from edge_app.associate.facts import EffectiveLink, End, Match, Revision, Unmatched
from edge_app.associate.settings import LinkSettings, TransitSettings
from edge_app.contract.envelope import uuid7
from edge_app.delivery.aggregate import Aggregates, AggregateSettings
from edge_app.delivery.outgoing import Letterhead
from edge_app.store.parts import Parts
from edge_app.types import Tracklet

LETTERHEAD = Letterhead("demo", "edge-1", "1")
CAMERAS = ("a", "b", "c")
LINKS = tuple(
    LinkSettings(from_camera=one, to_camera=other, transit=TransitSettings(min_s=1, max_s=40))
    for one, other in (("a", "b"), ("b", "c"), ("a", "c"))
)
SETTINGS = AggregateSettings(interval_s=60, settle_s=10, republish_s=1, keep_s=600)
START_S = 1_700_000_040.0  # a multiple of 60


def tracklet(name, entry_s, exit_s, class_name="car", zones=("left", "right")):
    return Tracklet(
        f"n/{name}", "n", name[0], class_name, START_S + entry_s, START_S + exit_s, 0.1, *zones, 0.0,
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), "v1", np.zeros(0), np.zeros((0, 4), np.float32),
    )  # fmt: skip


def match(from_name, to_name, at_s=0.0, state="confirmed"):
    return Match(
        uuid7(at_s, f"{from_name}{to_name}".encode()), at_s, state, "g", f"{from_name[0]}--{to_name[0]}",
        End(from_name[0], f"n/{from_name}", 0.0), End(to_name[0], f"n/{to_name}", 0.0),
        "car", 1.0, 0.9, 1.0, None, 1.0, None, "v1",
    )  # fmt: skip


def unmatched(name):
    return Unmatched(uuid7(0, name.encode()), 0.0, "g", End(name[0], f"n/{name}", 0.0), "car", 0.9, 1.0)


def retract(to_name, from_name=None):
    links = (EffectiveLink(f"n/{to_name}", from_name and f"n/{from_name}", "g"),)
    return Revision(uuid7(0, to_name.encode()), 0.0, "retract", (), "better", links)


class World:
    """Aggregates under a clock that ticks once a second."""

    def __init__(self, cameras=CAMERAS, settings=SETTINGS):
        self.parts: dict[str, bytes] = {}
        self.settings, self.now_s, self.said = settings, START_S, []
        self.delivering = set(cameras)
        self.aggregates = Aggregates(settings, CAMERAS, LINKS)

    def restart(self):
        self.aggregates = Aggregates(self.settings, CAMERAS, LINKS, Parts(self.parts))

    def run(self, until_s, tracklets=(), facts=()):
        said = []
        while self.now_s < START_S + until_s:
            self.now_s += 1
            self.aggregates.update(tracklets, facts, self.delivering, self.now_s)
            tracklets, facts = (), ()
            said += self.aggregates.due(LETTERHEAD, self.now_s, self.now_s)
            for key, value in self.aggregates.take_changes().items():
                if value is None:
                    self.parts.pop(key, None)
                else:
                    self.parts[key] = value
        self.said += said
        return said


def of(said, model, start_s=0.0):
    return [message for message in said if isinstance(message, model) and message.interval_start_s == START_S + start_s]
