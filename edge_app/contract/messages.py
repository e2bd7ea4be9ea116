"""Every message of the tree `crosslane/v1/…` as one frozen model.

A reader ignores fields it does not know; a breaking change is a `v2` tree beside this one. Every time is sent twice:
`…_s` is seconds since the epoch, which a reader takes, and beside it stands the same instant as RFC 3339 text in UTC.
Counts per interval are in `aggregates.py`. `topics.py` says where each message goes and with which quality of service,
and turns messages into JSON and back.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from edge_app.contract.envelope import (
    Count,
    Envelope,
    EpochSeconds,
    EventId,
    Link,
    Part,
    Seconds,
    Share,
    Slug,
    Text,
    as_text,
)

NodeStateName: TypeAlias = Literal["online", "offline", "degraded", "updating"]
CameraStateName: TypeAlias = Literal["ok", "stalled", "offline", "clock_suspect"]


class NodeState(Envelope):
    """Is this node alive. The broker itself publishes `offline` when the connection dies."""

    message: ClassVar[str] = "state"
    schema_: Literal["crosslane/v1/state"] = Field(
        "crosslane/v1/state", validation_alias="schema", serialization_alias="schema"
    )
    state: NodeStateName
    reason: Text | None = None


class BirthCamera(Part):
    camera: Slug
    zones: tuple[Text, ...] = ()


class BirthLink(Part):
    link: Link
    from_camera: Slug
    to_camera: Slug
    transit_min_s: Seconds
    transit_max_s: Seconds


class Birth(Envelope):
    """What this node is and runs; published on every connect. The digests are in the envelope."""

    message: ClassVar[str] = "birth"
    schema_: Literal["crosslane/v1/birth"] = Field(
        "crosslane/v1/birth", validation_alias="schema", serialization_alias="schema"
    )
    software: Text
    """Name and version, `crosslane 0.1.0`."""
    platform: Text
    detector: Text | None = None
    class_names: tuple[Text, ...] = ()
    cameras: tuple[BirthCamera, ...]
    links: tuple[BirthLink, ...]


class CameraHealth(Part):
    camera: Slug
    state: CameraStateName
    fps: Seconds
    """Frames processed per second since the last heartbeat."""
    frames: Count
    """Since the start of the application."""
    frames_dropped: Count
    """Since the start: replaced by a newer frame before their turn."""


class StageHealth(Part):
    stage: Text
    n: Count
    """Runs since the last heartbeat."""
    p50_s: Seconds
    p95_s: Seconds


class Health(Envelope):
    """The heartbeat, every 30 s."""

    message: ClassVar[str] = "health"
    schema_: Literal["crosslane/v1/health"] = Field(
        "crosslane/v1/health", validation_alias="schema", serialization_alias="schema"
    )
    uptime_s: Seconds
    cameras: tuple[CameraHealth, ...]
    stages: tuple[StageHealth, ...]
    temperatures_celsius: dict[str, float]
    disk_free_bytes: Count | None = None
    memory_rss_bytes: Count | None = None
    outbox_depth: Count
    """Messages not yet acknowledged by the broker."""
    outbox_bytes: Count
    outbox_oldest_unsent_s: Seconds | None
    """Age of the oldest of them; null when there is none."""
    counters: dict[str, Count]
    """Since the start: what was dropped, shed or refused, by name."""


class CameraState(Envelope):
    """Is this camera delivering pictures that can be believed."""

    message: ClassVar[str] = "camera_state"
    schema_: Literal["crosslane/v1/camera_state"] = Field(
        "crosslane/v1/camera_state", validation_alias="schema", serialization_alias="schema"
    )
    camera: Slug
    state: CameraStateName
    reason: Text | None = None


class Embeddings(Part):
    """Rows of unit length, row-major little-endian float16, base64."""

    rows: Annotated[int, Field(ge=1, le=8)]
    dimension: Annotated[int, Field(ge=1, le=4096)]
    data: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Sighting(Envelope):
    """A finished tracklet, for the nodes whose cameras come next. People carry no embeddings unless configured."""

    message: ClassVar[str] = "sighting"
    schema_: Literal["crosslane/v1/sighting"] = Field(
        "crosslane/v1/sighting", validation_alias="schema", serialization_alias="schema"
    )
    camera: Slug
    track: Text
    class_name: Text = Field(validation_alias="class", serialization_alias="class")
    entry_time_s: EpochSeconds
    exit_time_s: EpochSeconds
    time_sigma_s: Seconds
    entry_zone: Text
    exit_zone: Text
    heading_rad: float | None
    embeddings: Embeddings | None

    entry_time = as_text("entry_time_s")

    exit_time = as_text("exit_time_s")


class MatchFrom(Part):
    camera: Slug
    track: Text
    exit_time_s: EpochSeconds

    exit_time = as_text("exit_time_s")


class MatchTo(Part):
    camera: Slug
    track: Text
    entry_time_s: EpochSeconds

    entry_time = as_text("entry_time_s")


class Match(Envelope):
    """What entered at `to` is what left at `from`."""

    message: ClassVar[str] = "match"
    schema_: Literal["crosslane/v1/match"] = Field(
        "crosslane/v1/match", validation_alias="schema", serialization_alias="schema"
    )
    global_id: Text
    link: Link
    from_: MatchFrom = Field(validation_alias="from", serialization_alias="from")
    to: MatchTo
    transit_s: float
    posterior: Share
    margin: float
    """Log posterior odds against the best alternative, nats, limited to ±100."""
    runner_up: Text | None
    state: Literal["provisional", "confirmed"]
    decision_delay_s: float
    class_name: Text = Field(validation_alias="class", serialization_alias="class")
    supersedes: EventId | None


class EffectiveLink(Part):
    to_track: Text
    from_track: Text | None
    global_id: Text


class Revision(Envelope):
    """Earlier matches were wrong; `effective_links` is what holds instead."""

    message: ClassVar[str] = "revision"
    schema_: Literal["crosslane/v1/revision"] = Field(
        "crosslane/v1/revision", validation_alias="schema", serialization_alias="schema"
    )
    revises: tuple[EventId, ...]
    kind: Literal["split", "merge", "retract"]
    reason: Text
    effective_links: tuple[EffectiveLink, ...]


class Gap(Envelope):
    """Messages that were given up because the outbox was full or they were too old."""

    message: ClassVar[str] = "gap"
    schema_: Literal["crosslane/v1/gap"] = Field(
        "crosslane/v1/gap", validation_alias="schema", serialization_alias="schema"
    )
    reason: Text
    counts: dict[str, Count]
    """How many of each kind."""
    first_queued_at_s: EpochSeconds
    first_queued_at = as_text("first_queued_at_s")
    last_queued_at_s: EpochSeconds
    last_queued_at = as_text("last_queued_at_s")


class Bundle(Part):
    digest: Text
    serial: Count
    embedding_version: Text


class Gate(Part):
    name: Text
    passed: bool
    value: float
    limit: float


class ModelState(Envelope):
    """Which model bundle serves, which served before, which one is on trial, and why."""

    message: ClassVar[str] = "model_state"
    schema_: Literal["crosslane/v1/model_state"] = Field(
        "crosslane/v1/model_state", validation_alias="schema", serialization_alias="schema"
    )
    stage: Literal["staged", "verified", "built", "gated", "active", "probation", "committed", "rolled_back"]
    active: Bundle | None
    previous: Bundle | None = None
    candidate: Bundle | None = None
    gates: tuple[Gate, ...] = ()
    reason: Text | None = None


class Command(Envelope):
    """A request to the node named in the envelope; boot_id and seq are the sender's."""

    message: ClassVar[str] = "command"
    schema_: Literal["crosslane/v1/command"] = Field(
        "crosslane/v1/command", validation_alias="schema", serialization_alias="schema"
    )
    name: Literal["forget", "flush", "update", "rollback"]
    global_id: Text | None = None
    camera: Slug | None = None
    from_time_s: EpochSeconds | None = None
    to_time_s: EpochSeconds | None = None
    bundle_digest_wanted: Text | None = None
