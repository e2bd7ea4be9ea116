"""The retained messages that hold now: said when they change, and all of them again on every connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from edge_app.contract.envelope import uuid7
from edge_app.contract.topics import Message, kind_of, topic_of
from edge_app.delivery.outgoing import Letterhead


class Retained:
    """Any thread may hold; one thread takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Message] = {}  # by topic
        self._unsaid: set[str] = set()  # what this connection has not been given

    def hold(self, message: Message, site: str) -> None:
        topic = topic_of(message, site)
        with self._lock:
            self._held[topic] = message
            self._unsaid.add(topic)

    def say_all_again(self) -> None:
        with self._lock:
            self._unsaid = set(self._held)

    def say_again(self, topic: str) -> None:
        with self._lock:
            self._unsaid.add(topic)

    def waiting(self, allowed: Callable[[str], bool]) -> bool:
        """Something among the allowed topics is still to be said."""
        with self._lock:
            return any(allowed(topic) for topic in self._unsaid)

    def take(self, allowed: Callable[[str], bool]) -> tuple[str, Message] | None:
        """The next (topic, message) to say among the allowed topics; the node's own state comes last."""
        with self._lock:
            topics = [topic for topic in self._unsaid if allowed(topic)]
            if not topics:
                return None
            topic = min(topics, key=_state_last)
            self._unsaid.remove(topic)
            return topic, self._held[topic]


def renewed(message: Message, letterhead: Letterhead, now_s: float) -> Message:
    """State and birth mean "now": said again they are new events, lest a reader that saw a last will drops them."""
    if kind_of(message) not in ("state", "birth"):
        return message
    event_id = uuid7(now_s, os.urandom(16))
    return message.model_copy(update={"event_id": event_id, "observed_at_s": now_s, "seq": next(letterhead.numbers)})


def _state_last(topic: str) -> bool:
    """A node is `online` only once it has said what it is."""
    return topic.endswith("/state") and topic.count("/") == 4
