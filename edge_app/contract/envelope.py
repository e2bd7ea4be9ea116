"""What all messages share: the checked types of their fields, the envelope, event ids, and instants as text."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, computed_field

SLUG_PATTERN = r"^[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*$"  # no "--": it separates the two cameras of a link
LINK_PATTERN = SLUG_PATTERN[:-1] + "--" + SLUG_PATTERN[1:]
UUID7_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
RFC3339_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"

LONGEST_TEXT = 300
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def one_line(text: Any) -> Any:
    """A text as messages carry it: one line of UTF-8 that is cut at 300 characters. Nobody's name for a thing, and no
    library's error, can make a message that cannot be said."""
    if not isinstance(text, str) or (len(text) <= LONGEST_TEXT and text.isprintable()):
        return text
    line = _CONTROLS.sub(" ", text.encode("utf-8", "replace").decode("utf-8"))
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"


Slug = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=64)]
Link = Annotated[str, Field(pattern=LINK_PATTERN, max_length=130)]
EventId = Annotated[str, Field(pattern=UUID7_PATTERN)]
Text = Annotated[str, BeforeValidator(one_line), Field(max_length=LONGEST_TEXT)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
EpochSeconds = Annotated[float, Field(ge=0, le=253402300799), AfterValidator(lambda time_s: round(time_s, 3))]
Rfc3339 = Annotated[str, Field(pattern=RFC3339_PATTERN, json_schema_extra={"format": "date-time"})]

ClockState: TypeAlias = Literal["ok", "suspect", "unknown"]


def rfc3339(time_s: float) -> str:
    """Seconds since the epoch → `2026-01-31T12:00:00.250Z`."""
    milliseconds = round(time_s * 1000)
    whole = datetime.fromtimestamp(milliseconds // 1000, tz=timezone.utc)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def uuid7(time_s: float, content: bytes) -> str:
    """UUIDv7 (RFC 9562) of an instant and 74 bits of SHA-256 of `content`.

    Pass random bytes for a message that is said once. Pass what the message is about (node, track ids, kind) for an
    event that may be decided again after a crash: it then gets the same id, and subscribers drop the repeat.
    """
    digest = int.from_bytes(hashlib.sha256(content).digest(), "big")
    random_a, random_b = digest >> 244, digest & ((1 << 62) - 1)
    value = (round(time_s * 1000) & ((1 << 48) - 1)) << 80 | 7 << 76 | random_a << 64 | 0b10 << 62 | random_b
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def page_id(event_id: str, page: int) -> str:
    """The id of a further page of an event: the same whenever the event is said again."""
    time_s = int(event_id.replace("-", "")[:12], 16) / 1000
    return uuid7(time_s, f"{event_id} page {page}".encode())


def as_text(seconds_field: str, shown: Any = Rfc3339) -> Any:
    """A read-only field that shows the instant in `seconds_field` as RFC 3339; `shown` is its type, null or not."""

    def text(message: Any) -> str | None:
        time_s = getattr(message, seconds_field)
        return None if time_s is None else rfc3339(time_s)

    return computed_field(return_type=shown)(property(text))


class Part(BaseModel):
    """The rules that every message and every piece of one obeys."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,  # what is sent carries every field
    )


class Envelope(Part):
    """What every message carries. Order holds within (node, boot_id) only."""

    message: ClassVar[str]
    event_id: EventId
    """Repeats of one event carry the same id. Drop what you have seen."""
    node: Slug
    boot_id: Text
    """One start of the application on this node."""
    seq: Count
    """Grows with every message of this boot, over all topics."""
    observed_at_s: EpochSeconds
    """Capture time at which this became known."""
    observed_at = as_text("observed_at_s")
    published_at_s: EpochSeconds
    """When this copy was handed to the broker; in the node's outbox: when it was queued."""
    published_at = as_text("published_at_s")
    clock_state: ClockState
    historical: bool = False
    """True for a backlog drained after an interruption: true, but late."""
    embedding_version: Text | None
    bundle_digest: Text | None
    config_digest: Text | None


class Paged(Envelope):
    """A message whose lists grow with the site. What does not fit into one message is said in `pages` of them.

    All pages have the same fields, with a part of the lists each (`grows`), and an event_id of their own; together they
    are what is said. A reader that knows nothing of pages reads each as a message with fewer rows.
    """

    grows: ClassVar[tuple[str, ...]]
    page: Annotated[int, Field(ge=1)] = 1
    """Counts from 1."""
    pages: Annotated[int, Field(ge=1)] = 1
    """How many there are of this message; 1 where everything fits."""
