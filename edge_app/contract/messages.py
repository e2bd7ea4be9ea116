"""Every message of the tree `crosslane/v1/…` as one frozen model.

A reader ignores fields it does not know; a breaking change is a `v2` tree beside this one. Every time is sent twice:
`…_s` is seconds since the epoch, which a reader takes, and beside it stands the same instant as RFC 3339 text in UTC.
Counts per interval are in `aggregates.py`. `topics.py` says where each message goes and with which quality of service,
and turns messages into JSON and back; `paging.py` cuts what grows with the site into messages that fit.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field

from edge_app.contract.envelope import (
    Count,
    Envelope,
    EpochSeconds,
    EventId,
    Link,
    Paged,
    Part,
    Rfc3339,
    Seconds,
    Share,
    Slug,
    Text,
    as_text,
)

NodeStateName: TypeAlias = Literal["online", "offline", "degraded"]
CameraStateName: TypeAlias = Literal["ok", "stalled", "offline", "clock_suspect"]
WaitedFor: TypeAlias = Literal["evidence", "open_tracks", "deadline"]
Pixels = Annotated[float, AfterValidator(lambda px: round(px, 1))]
Box: TypeAlias = tuple[Pixels, Pixels, Pixels, Pixels]  # x1, y1, x2, y2 in pixels of the frame


class NodeState(Envelope):
    """Is this node alive. The broker itself publishes `offline` when the connection dies."""

    message: ClassVar[str] = "state"
    schema_: Literal["crosslane/v1/state"] = Field(
        "crosslane/v1/state", validation_alias="schema", serialization_alias="schema"
    )
    state: NodeStateName
    reason: Text | None = None


class BirthCamera(Part):
    """One camera; named again on the next page where its zones need more than one."""

    grows: ClassVar[tuple[str, ...]] = ("zones",)
    camera: Slug
    zones: tuple[Text, ...] = ()


class BirthLink(Part):
    link: Link
    from_camera: Slug
    to_camera: Slug
    transit_min_s: Seconds
    transit_max_s: Seconds


class Birth(Paged):
    """What this node is and runs; published on every connect. The digests are in the envelope.

    A topic keeps one retained message, so page 1 is on `birth` and page n on `birth/n`. Pages belong together when
    their boot_id is the same; those beyond `pages` were left behind by a larger site.
    """

    message: ClassVar[str] = "birth"
    grows: ClassVar[tuple[str, ...]] = ("class_names", "cameras", "links")
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
    corrupt: Count = 0
    """Since the start: damaged packets and pictures, and the pictures built on them, that were left out."""
    falls: Count = 0
    """Since the start: how often it was ok and then was not."""


class StageHealth(Part):
    stage: Text
    n: Count
    """Runs since the last heartbeat."""
    p50_s: Seconds
    p95_s: Seconds


class Health(Paged):
    """The heartbeat, every 30 s. Its pages have the same observed_at_s."""

    message: ClassVar[str] = "health"
    grows: ClassVar[tuple[str, ...]] = ("cameras", "stages", "temperatures_celsius", "counters")
    schema_: Literal["crosslane/v1/health"] = Field(
        "crosslane/v1/health", validation_alias="schema", serialization_alias="schema"
    )
    uptime_s: Seconds
    cameras: tuple[CameraHealth, ...]
    stages: tuple[StageHealth, ...]
    temperatures_celsius: dict[Text, float]
    disk_free_bytes: Count | None = None
    memory_rss_bytes: Count | None = None
    outbox_depth: Count
    """Messages not yet acknowledged by the broker."""
    outbox_bytes: Count
    outbox_oldest_unsent_s: Seconds | None
    """Age of the oldest of them; null when there is none."""
    counters: dict[Text, Count]
    """Since the start: what was dropped, shed or refused, by name; of crops also what waits now."""


class CameraState(Envelope):
    """Is this camera delivering pictures that can be believed."""

    message: ClassVar[str] = "camera_state"
    schema_: Literal["crosslane/v1/camera_state"] = Field(
        "crosslane/v1/camera_state", validation_alias="schema", serialization_alias="schema"
    )
    camera: Slug
    state: CameraStateName
    reason: Text | None = None


class Place(Part):
    """Where a passage came into its camera's picture, and where it left it."""

    entry_zone: Text
    """A zone of the camera's configuration, or the edge of the picture: left, right, top, bottom, else inside."""
    exit_zone: Text
    entry_box: Box
    exit_box: Box
    frame_width_px: Count
    frame_height_px: Count


class MatchFrom(Part):
    camera: Slug
    track: Text
    exit_time_s: EpochSeconds
    exit_time = as_text("exit_time_s")
    entry_time_s: EpochSeconds | None = None
    """When this passage had begun. Since contract 1.1, like `place`; null in a message of 1.0."""
    entry_time = as_text("entry_time_s", Rfc3339 | None)
    place: Place | None = None


class MatchTo(Part):
    camera: Slug
    track: Text
    entry_time_s: EpochSeconds
    entry_time = as_text("entry_time_s")
    exit_time_s: EpochSeconds | None = None
    """When this passage ended. Since contract 1.1, like `place`; null in a message of 1.0."""
    exit_time = as_text("exit_time_s", Rfc3339 | None)
    place: Place | None = None


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
    waited_for: WaitedFor | None = None
    """Why it was not said earlier. `evidence`: it only now became this probable, at once or after others were seen.
    `open_tracks`: it was this probable, but somebody still on screen, or not yet decided, could have been better.
    `deadline`: it never became probable enough to be confirmed at once, and the time for better ones was up.
    A provisional match says what it still waits for. Since contract 1.1."""


class EffectiveLink(Part):
    to_track: Text
    from_track: Text | None
    global_id: Text


class Revision(Paged):
    """Earlier matches were wrong; `effective_links` is what holds instead."""

    message: ClassVar[str] = "revision"
    grows: ClassVar[tuple[str, ...]] = ("effective_links",)
    schema_: Literal["crosslane/v1/revision"] = Field(
        "crosslane/v1/revision", validation_alias="schema", serialization_alias="schema"
    )
    revises: tuple[EventId, ...]
    kind: Literal["split", "merge", "retract"]
    reason: Text
    effective_links: tuple[EffectiveLink, ...]


class Gap(Envelope):
    """Messages that were given up: the outbox was full, they were too old, or they could not be made."""

    message: ClassVar[str] = "gap"
    schema_: Literal["crosslane/v1/gap"] = Field(
        "crosslane/v1/gap", validation_alias="schema", serialization_alias="schema"
    )
    reason: Text
    counts: dict[Text, Count]
    """How many of each kind."""
    first_queued_at_s: EpochSeconds
    first_queued_at = as_text("first_queued_at_s")
    last_queued_at_s: EpochSeconds
    last_queued_at = as_text("last_queued_at_s")
