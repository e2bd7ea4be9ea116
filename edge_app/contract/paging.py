"""What grows with the site, cut into messages that fit.

A message names its growing lists (`Paged.grows`), and so may a row of them: a row larger than a page is said again on
the next one with the rest of its own list. Rows keep their order. Values in, values out; O(bytes of the message).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from edge_app.contract.envelope import Paged, page_id
from edge_app.contract.topics import PAYLOAD_LIMIT_BYTES

PAGE_BYTES = PAYLOAD_LIMIT_BYTES - 1024  # numbers may be written longer when a page is stamped
MOST_PAGES = 99_999  # for the size of the two numbers

M = TypeVar("M", bound=Paged)
Row = tuple[str, Any]  # name of its list, and what stands in it: an item, or a pair of a mapping


def paginate(message: M, numbers: Iterator[int]) -> list[M]:
    """The message itself where it fits, else its pages. `numbers` gives the sequence number of every further page."""
    if _bytes(message) <= PAGE_BYTES:
        return [message]
    lists = {name: getattr(message, name) for name in message.grows}
    bare = message.model_copy(update={name: type(rows)() for name, rows in lists.items()} | {"pages": MOST_PAGES})
    pages = list(_packed(_rows(lists), PAGE_BYTES - _bytes(bare)))
    return [
        bare.model_copy(
            update={
                "event_id": message.event_id if number == 1 else page_id(message.event_id, number),
                "seq": message.seq if number == 1 else next(numbers),
                "page": number,
                "pages": len(pages),
                **_lists(page, lists),
            }
        )
        for number, page in enumerate(pages, start=1)
    ]


def _rows(lists: dict[str, Any]) -> Iterator[Row]:
    for name, rows in lists.items():
        for row in rows.items() if isinstance(rows, dict) else rows:
            yield name, row


def _lists(page: list[Row], lists: dict[str, Any]) -> dict[str, Any]:
    """The rows of a page, back in lists of their own kind."""
    return {name: type(rows)(row for owner, row in page if owner == name) for name, rows in lists.items()}


def _packed(rows: Iterable[Row], room_bytes: int) -> Iterator[list[Row]]:
    """Rows in order, as many to a page as fit."""
    page: list[Row] = []
    used = 0
    for name, whole in rows:
        for row in _portions(whole, room_bytes):
            size = _bytes(row) + 1  # a comma
            if page and used + size > room_bytes:
                yield page
                page, used = [], 0
            page.append((name, row))
            used += size
    yield page


def _portions(row: Any, room_bytes: int) -> Iterator[Any]:
    """The row, or several of it with a part of its own list each. One that cannot be cut is left as it is."""
    grows = getattr(type(row), "grows", ())
    if not grows or _bytes(row) < room_bytes:
        yield row
        return
    lists = {name: getattr(row, name) for name in grows}
    bare = row.model_copy(update={name: type(rows)() for name, rows in lists.items()})
    for page in _packed(_rows(lists), room_bytes - _bytes(bare) - 1):
        yield bare.model_copy(update=_lists(page, lists))


def _bytes(value: Any) -> int:
    """Its size in JSON. A pair of a mapping costs as much as in a list."""
    if isinstance(value, BaseModel):
        return len(value.model_dump_json(by_alias=True).encode())
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
