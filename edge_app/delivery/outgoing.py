"""From facts to messages to rows of the outbox. Pure, apart from counting the messages of this boot."""

from __future__ import annotations

import base64
import itertools
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from edge_app.associate.facts import Fact, Match, Revision
from edge_app.associate.settings import LinkSettings
from edge_app.contract import messages
from edge_app.contract.envelope import ClockState, uuid7
from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES, Message, encode, kind_of, topic_of
from edge_app.store.rows import Row, Shed
from edge_app.types import Floats, Tracklet

MARGIN_LIMIT_NATS = 100.0
LINKS_PER_REVISION = 40
ENVELOPE_ROOM_BYTES = 2048  # what a sighting says besides its embeddings


@dataclass(frozen=True)
class Letterhead:
    """What every message of this boot of this node carries. Make a new one with `replace` when the model changes."""

    site: str
    node: str
    boot_id: str
    embedding_version: str | None = None
    bundle_digest: str | None = None
    config_digest: str | None = None
    clock_state: ClockState = "ok"
    numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)  # next() is atomic in CPython

    def envelope(self, event_id: str, observed_at_s: float, now_s: float) -> dict[str, Any]:
        """The fields of `contract.envelope.Envelope`; the message's sequence number is taken here."""
        return {
            "event_id": event_id,
            "node": self.node,
            "boot_id": self.boot_id,
            "seq": next(self.numbers),
            "observed_at_s": observed_at_s,
            "published_at_s": now_s,
            "clock_state": self.clock_state,
            "embedding_version": self.embedding_version,
            "bundle_digest": self.bundle_digest,
            "config_digest": self.config_digest,
        }

    def once(self, now_s: float) -> dict[str, Any]:
        """The envelope of a message that is said once, about now: a state, a heartbeat."""
        return self.envelope(uuid7(now_s, os.urandom(16)), now_s, now_s)

    def row(self, message: Message) -> Row:
        """Raises MessageError when the message is too large."""
        return Row(message.event_id, kind_of(message), topic_of(message, self.site), encode(message))


def match_message(letterhead: Letterhead, fact: Match, now_s: float) -> messages.Match:
    envelope = letterhead.envelope(fact.event_id, fact.observed_at_s, now_s)
    return messages.Match(
        **{**envelope, "embedding_version": fact.embedding_version},
        global_id=fact.global_id,
        link=fact.link,
        from_=messages.MatchFrom(camera=fact.from_.camera, track=fact.from_.track, exit_time_s=fact.from_.time_s),
        to=messages.MatchTo(camera=fact.to.camera, track=fact.to.track, entry_time_s=fact.to.time_s),
        transit_s=fact.transit_s,
        posterior=min(max(fact.posterior, 0.0), 1.0),
        margin=min(max(fact.margin, -MARGIN_LIMIT_NATS), MARGIN_LIMIT_NATS),  # JSON has no infinity
        runner_up=fact.runner_up,
        state=fact.state,
        decision_delay_s=fact.decision_delay_s,
        class_name=fact.class_name,
        supersedes=fact.supersedes,
    )


def revision_messages(letterhead: Letterhead, fact: Revision, now_s: float) -> list[messages.Revision]:
    """One message, or several where the links that now hold do not fit into one."""
    parts = []
    for first in range(0, max(len(fact.effective_links), 1), LINKS_PER_REVISION):
        part = f"{fact.event_id} links from {first}".encode()
        event_id = uuid7(fact.observed_at_s, part) if first else fact.event_id
        links = fact.effective_links[first : first + LINKS_PER_REVISION]
        parts.append(
            messages.Revision(
                **letterhead.envelope(event_id, fact.observed_at_s, now_s),
                revises=fact.revises,
                kind=fact.kind,
                reason=fact.reason,
                effective_links=tuple(
                    messages.EffectiveLink(to_track=link.to_track, from_track=link.from_track, global_id=link.global_id)
                    for link in links
                ),
            )
        )
    return parts


def fact_messages(letterhead: Letterhead, facts: list[Fact], now_s: float) -> list[Message]:
    """Matches and revisions in order. What matched nothing is not said by itself; it counts in the aggregates."""
    said: list[Message] = []
    for fact in facts:
        if isinstance(fact, Match):
            said.append(match_message(letterhead, fact, now_s))
        elif isinstance(fact, Revision):
            said.extend(revision_messages(letterhead, fact, now_s))
    return said


def _embeddings(rows: Floats) -> messages.Embeddings | None:
    """(M, D) float32 → float16 in base64; None for no rows."""
    if len(rows) == 0:
        return None
    data = base64.b64encode(rows.astype("<f2").tobytes()).decode()
    return messages.Embeddings(rows=len(rows), dimension=rows.shape[1], data=data)


def read_embeddings(sent: messages.Embeddings) -> Floats:
    """(M, D) float32, unit rows. Raises ValueError when the data is not as large as it says."""
    rows = np.frombuffer(base64.b64decode(sent.data, validate=True), "<f2").astype(np.float32)
    rows = rows.reshape(sent.rows, sent.dimension)
    norms: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.maximum(norms, np.float32(1e-6))
    return rows


def sighting_message(letterhead: Letterhead, tracklet: Tracklet, with_embeddings: bool, now_s: float) -> Message:
    """A finished tracklet for the neighbours. The worst views are left out until it fits into one message."""
    row_bytes = 2 * max(tracklet.embeddings.shape[1], 1)
    rows = min((PAYLOAD_LIMIT_BYTES - ENVELOPE_ROOM_BYTES) * 3 // 4 // row_bytes, 8) if with_embeddings else 0
    best = np.sort(np.argsort(-tracklet.qualities, kind="stable")[:rows])
    event_id = uuid7(tracklet.exit_time_s, f"sighting {tracklet.id}".encode())  # said again after a crash: the same
    envelope = letterhead.envelope(event_id, tracklet.exit_time_s, now_s)
    return messages.Sighting(
        **{**envelope, "embedding_version": tracklet.embedding_version},
        camera=tracklet.camera,
        track=tracklet.id,
        class_name=tracklet.class_name,
        entry_time_s=tracklet.entry_time_s,
        exit_time_s=tracklet.exit_time_s,
        time_sigma_s=tracklet.time_sigma_s,
        entry_zone=tracklet.entry_zone,
        exit_zone=tracklet.exit_zone,
        heading_rad=tracklet.heading_rad if np.isfinite(tracklet.heading_rad) else None,
        embeddings=_embeddings(tracklet.embeddings[best]),
    )


def birth_message(
    letterhead: Letterhead,
    cameras: Mapping[str, Sequence[str]],
    links: Sequence[LinkSettings],
    detector: tuple[str | None, Sequence[str]],
    now_s: float,
) -> messages.Birth:
    """`cameras`: id → names of its zones. `detector`: its name and its class names. The model is the letterhead's."""
    return messages.Birth(
        **letterhead.once(now_s),
        software=f"crosslane {version('crosslane')}",
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        detector=detector[0],
        class_names=tuple(detector[1]),
        cameras=tuple(messages.BirthCamera(camera=name, zones=tuple(zones)) for name, zones in cameras.items()),
        links=tuple(
            messages.BirthLink(
                link=link.id,
                from_camera=link.from_camera,
                to_camera=link.to_camera,
                transit_min_s=link.transit.min_s,
                transit_max_s=link.transit.max_s,
            )
            for link in links
        ),
    )


def gap_row(letterhead: Letterhead, shed: Shed, now_s: float) -> Row:
    """The published account of it."""
    return letterhead.row(
        messages.Gap(
            **letterhead.once(now_s),
            reason=shed.reason,
            counts=shed.counts,
            first_queued_at_s=shed.first_queued_at_s,
            last_queued_at_s=shed.last_queued_at_s,
        )
    )
