"""The messages that count: flows, travel times and trips per interval.

Raw matches alone bias an origin-destination matrix, because match rates differ by link. So each message carries what
was there to be matched beside what was.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

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

NotBelowZero: TypeAlias = Annotated[float, Field(ge=0)]


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


Expected: TypeAlias = tuple[NotBelowZero, NotBelowZero, NotBelowZero]
"""How many there were, whether each was matched or not: the sum of what each match was worth; and between which numbers
the true one lies 19 times of 20, as far as the probabilities are right. Of what was seen: a vehicle that a
camera did not find is in none of them (with two cameras nothing tells how many those are)."""


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
    expected: dict[Text, Expected] = Field(default_factory=dict)
    """By class, how many of everything that left `from_camera` took this link: [n, low, high], whether each was matched
    or not; the rarest classes as "other". Since 1.1."""
    expected_median_s: Seconds | None = None
    expected_p10_s: Seconds | None = None
    expected_p90_s: Seconds | None = None
    """Travel times of all who may have taken the link, each by its probability."""
    audited_precision: Share | None = None
    audited_recall: Share | None = None
    """From the last audit of this link against ground truth; null when it was never audited."""


class OdPair(Part):
    """One origin and destination; named again on the next page where its classes need more than one."""

    grows: ClassVar[tuple[str, ...]] = ("counts", "expected")
    origin: Slug
    destination: Slug
    counts: dict[Text, Count]
    """Finished trips by class."""
    expected: dict[Text, Expected] = Field(default_factory=dict)
    """Trips by class, as many as are probable: [n, low, high]. A match that is missing makes two trips of one in
    `counts`; here it does not. Where origin and destination are one camera, they stayed there, turned off, or went
    where no camera is. Since 1.1."""


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
