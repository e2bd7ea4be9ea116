"""The messages that count: flows, travel times and trips per interval.

Raw matches alone bias an origin-destination matrix, because match rates differ by link. So each message carries what
was there to be matched beside what was.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edge_app.contract.envelope import (
    Count,
    Envelope,
    EpochSeconds,
    Link,
    Paged,
    Part,
    Seconds,
    Share,
    Slug,
    Text,
    as_text,
)


class FlowCount(Part):
    class_name: Text = Field(validation_alias="class", serialization_alias="class")
    entry_zone: Text
    exit_zone: Text
    n: Count


class Interval(Envelope):
    """An aggregate of one interval. A later one with a higher `revision` replaces it, with all its pages."""

    interval_start_s: EpochSeconds
    interval_start = as_text("interval_start_s")
    interval_s: Seconds
    revision: Annotated[int, Field(ge=1)]


class Flow(Interval, Paged):
    """What left one camera in one interval. No message means not known, never zero."""

    message: ClassVar[str] = "flow"
    grows: ClassVar[tuple[str, ...]] = ("counts",)
    schema_: Literal["crosslane/v1/flow"] = Field(
        "crosslane/v1/flow", validation_alias="schema", serialization_alias="schema"
    )
    camera: Slug
    coverage: Share
    """Share of the interval in which the camera delivered."""
    counts: tuple[FlowCount, ...]


class TravelTime(Interval):
    """The vehicles that left `from_camera` in one interval and were found again at `to_camera`."""

    message: ClassVar[str] = "traveltime"
    schema_: Literal["crosslane/v1/traveltime"] = Field(
        "crosslane/v1/traveltime", validation_alias="schema", serialization_alias="schema"
    )
    link: Link
    from_camera: Slug
    to_camera: Slug
    exits: Count
    """Everything that left `from_camera` in the interval."""
    eligible_exits: Count
    """Those of them that could take this link."""
    entries: Count
    """Everything that entered `to_camera` in the interval."""
    n: Count
    """Confirmed matches of the eligible exits."""
    match_rate: Share | None
    """n / eligible_exits; null without eligible exits. It differs by link: correct for it before comparing links."""
    median_s: Seconds | None
    p10_s: Seconds | None
    p90_s: Seconds | None
    audited_precision: Share | None = None
    audited_recall: Share | None = None
    """From the last audit of this link against ground truth; null when it was never audited."""


class OdPair(Part):
    """One origin and destination; named again on the next page where its classes need more than one."""

    grows: ClassVar[tuple[str, ...]] = ("counts",)
    origin: Slug
    destination: Slug
    counts: dict[Text, Count]
    """Finished trips by class."""


class LinkRate(Part):
    link: Link
    eligible_exits: Count
    n: Count
    match_rate: Share | None


class OriginDestination(Interval, Paged):
    """The trips that began in one interval: first and last camera at which each was seen."""

    message: ClassVar[str] = "od"
    grows: ClassVar[tuple[str, ...]] = ("pairs", "match_rates", "missing_cameras")
    schema_: Literal["crosslane/v1/od"] = Field(
        "crosslane/v1/od", validation_alias="schema", serialization_alias="schema"
    )
    pairs: tuple[OdPair, ...]
    match_rates: tuple[LinkRate, ...]
    missing_cameras: tuple[Slug, ...] = ()
    """Cameras that did not deliver in the interval: their absence from `pairs` is not a zero."""
