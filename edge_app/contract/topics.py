"""Where each message goes, with which quality of service; from a message to (topic, JSON) and back.

The tree has at most seven levels and only ASCII slugs:
`crosslane/v1/{site}/{node}/…` as in `RULES`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import ValidationError

from edge_app.contract.aggregates import Flow, OriginDestination, TravelTime
from edge_app.contract.envelope import LINK_PATTERN, SLUG_PATTERN, rfc3339
from edge_app.contract.errors import MessageError
from edge_app.contract.messages import (
    Birth,
    CameraState,
    Gap,
    Health,
    Match,
    NodeState,
    Revision,
)

Message: TypeAlias = (
    NodeState | Birth | Health | CameraState | Match | Revision | Gap | Flow | TravelTime | OriginDestination
)

ROOT = "crosslane/v1"
PAYLOAD_LIMIT_BYTES = 16 * 1024
STAMP_ROOM_BYTES = 128  # `stamp` writes another time, and some numbers by another rule


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of message is sent. `expiry_s` is for brokers that speak MQTT 5; None is never."""

    model: type[Message]
    path: str  # below crosslane/v1/{site}/{node}/; the placeholder is a field of the message
    qos: int
    retain: bool
    expiry_s: int | None = None


# Several rules of one model: a provisional match expires, a further page of a retained message has its own topic.
RULES: dict[str, Rule] = {
    "state": Rule(NodeState, "state", qos=1, retain=True),
    "birth": Rule(Birth, "birth", qos=1, retain=True),
    "birth_page": Rule(Birth, "birth/{page}", qos=1, retain=True),
    "health": Rule(Health, "health", qos=0, retain=False, expiry_s=90),
    "camera_state": Rule(CameraState, "camera/{camera}/state", qos=1, retain=True),
    "match": Rule(Match, "event/match", qos=1, retain=False),
    "match_provisional": Rule(Match, "event/match", qos=1, retain=False, expiry_s=60),
    "revision": Rule(Revision, "event/revision", qos=1, retain=False),
    "gap": Rule(Gap, "event/gap", qos=1, retain=False),
    "flow": Rule(Flow, "agg/flow/{camera}", qos=1, retain=False),
    "traveltime": Rule(TravelTime, "agg/traveltime/{link}", qos=1, retain=False),
    "od": Rule(OriginDestination, "agg/od", qos=1, retain=False),
}

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
PLACEHOLDERS = {"link": LINK_PATTERN, "page": "^(?:[2-9]|[1-9][0-9]+)$"}  # the others are slugs


def kind_of(message: Message) -> str:
    """The key of the message's rule."""
    if isinstance(message, Match) and message.state == "provisional":
        return "match_provisional"
    if isinstance(message, Birth) and message.page > 1:
        return "birth_page"
    return message.message


def topic_of(message: Message, site: str) -> str:
    """The topic of a message of the node it names. Raises MessageError when `site` is not a slug."""
    if not re.fullmatch(SLUG_PATTERN[1:-1], site):
        raise MessageError(f"site {site!r} is not a slug: ASCII letters and digits, joined by single '-' or '_'")
    path = RULES[kind_of(message)].path
    return f"{ROOT}/{site}/{message.node}/" + _PLACEHOLDER.sub(lambda found: str(getattr(message, found[1])), path)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart. `fields` are the values of the path's placeholders."""

    site: str
    node: str
    kind: str
    fields: dict[str, str]


def _pattern(path: str) -> re.Pattern[str]:
    """The topics of one rule, as an expression with groups site, node and the placeholders."""
    slug = SLUG_PATTERN[1:-1]
    inner = _PLACEHOLDER.sub(lambda found: f"(?P<{found[1]}>{PLACEHOLDERS.get(found[1], SLUG_PATTERN)[1:-1]})", path)
    return re.compile(f"{ROOT}/(?P<site>{slug})/(?P<node>{slug})/{inner}")


_PATTERNS = {kind: _pattern(rule.path) for kind, rule in RULES.items() if kind != "match_provisional"}


def parse_topic(topic: str) -> Topic:
    """Raises MessageError when the topic is not in the tree."""
    for kind, pattern in _PATTERNS.items():
        found = pattern.fullmatch(topic)
        if found:
            fields = found.groupdict()
            return Topic(fields.pop("site"), fields.pop("node"), kind, fields)
    raise MessageError(f"topic {topic!r} is not in the tree {ROOT}/{{site}}/{{node}}/…; see contract/topics.py")


def encode(message: Message) -> bytes:
    """JSON in UTF-8. Raises MessageError where it, stamped, may be above 16 kB: page what grows, see `paging.py`."""
    payload = message.model_dump_json(by_alias=True).encode()
    if len(payload) > PAYLOAD_LIMIT_BYTES - STAMP_ROOM_BYTES:
        raise MessageError(
            f"a {message.message} message of {len(payload)} bytes; "
            f"at most {PAYLOAD_LIMIT_BYTES - STAMP_ROOM_BYTES} are allowed before it is stamped"
        )
    return payload


def decode(topic: str, payload: bytes) -> Message:
    """The message on `topic`. Raises MessageError when it breaks the contract or contradicts its topic."""
    parsed = parse_topic(topic)
    if len(payload) > PAYLOAD_LIMIT_BYTES:
        raise MessageError(f"{topic}: {len(payload)} bytes; at most {PAYLOAD_LIMIT_BYTES} are allowed")
    try:
        message = RULES[parsed.kind].model.model_validate_json(payload)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise MessageError(f"{topic}: {problems}") from error
    for field, value in {"node": parsed.node, **parsed.fields}.items():
        if str(getattr(message, field)) != value:
            raise MessageError(f"{topic}: the message says {field} {getattr(message, field)!r}")
    return message


def stamp(payload: bytes, published_at_s: float, historical: bool) -> bytes:
    """The same message with the time it is handed to the broker, and whether it comes late."""
    fields = json.loads(payload)
    fields["published_at_s"] = round(published_at_s, 3)
    fields["published_at"] = rfc3339(published_at_s)
    fields["historical"] = historical
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
