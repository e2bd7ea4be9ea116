"""The outbox as one connection sees it: what comes next, what is in flight, what is marked sent or put aside."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from edge_app.bus import publish_advice
from edge_app.delivery.blame import Blame, Item
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Pending, Store

PAGE_ROWS = 100
PUT_ASIDE_S = 5.0  # rows put aside within so long are one account


class Backlog:
    """Used by the publisher's thread alone, apart from looking at `inflight`. Times are monotonic."""

    def __init__(self, store: Store, blame: Blame) -> None:
        self.inflight: dict[int, Item] = {}  # by the number of the message on this connection
        self._store, self._blame = store, blame
        self._page: deque[Pending] = deque()
        self._to_mark: set[int] = set()  # acknowledged, but the disk did not take the mark yet
        self._to_put_aside: dict[Item, str] = {}  # with the reason
        self._put_aside_at_s = float("-inf")
        self._last_id = 0
        self._empty = False
        self._again_s: float | None = None  # when rows that were not taken are offered again

    def rewind(self) -> None:
        """A new connection: offer everything unacknowledged again."""
        self.inflight.clear()
        self._restart()

    def _restart(self) -> None:
        self._page.clear()
        self._last_id, self._empty, self._again_s = 0, False, None

    def peek(self, now_s: float) -> Pending | None:
        """The next row to send, or None."""
        if self._again_s is not None and now_s >= self._again_s:
            self._restart()
        while not self._page:
            if self._empty and not self._store.wake.is_set():
                return None
            self._store.wake.clear()
            rows = self._store.pending(PAGE_ROWS, self._last_id)
            self._empty = len(rows) < PAGE_ROWS
            if not rows:
                return None
            self._last_id = rows[-1].id
            self._page.extend(row for row in rows if self._offered(row, now_s))
        return self._page[0]

    def _offered(self, row: Pending, now_s: float) -> bool:
        item = Item(row.id, row.topic)
        until_s = self._blame.waits_until_s(item, now_s)
        if until_s is not None:
            self._again_s = min(self._again_s or until_s, until_s)
        known = row.id in self._to_mark or item in self._to_put_aside or item in self.inflight.values()
        return until_s is None and not known

    def sent(self, number: int) -> None:
        """The row last peeked at is on its way under this number."""
        row = self._page.popleft()
        self.inflight[number] = Item(row.id, row.topic)

    def sent_retained(self, number: int, topic: str) -> None:
        """A message that is not in the outbox is on its way under this number."""
        self.inflight[number] = Item(0, topic)

    def pass_over(self, why: str, now_s: float) -> None:
        """The row last peeked at cannot be sent to this broker."""
        row = self._page.popleft()
        item = Item(row.id, row.topic)
        if item.can_be_put_aside:
            self._to_put_aside[item] = why
        else:
            self._refuse(item, why, now_s)

    def settle(self, acknowledged: list[tuple[int, str | None]], now_s: float) -> list[Item]:
        """Mark what the broker took. What it refused, which is returned, is offered again later and stops nothing."""
        refused: list[Item] = []
        for number, objection in acknowledged:
            item = self.inflight.pop(number, None)
            if item is None:
                continue
            if objection is not None:
                refused.append(item)
                self._refuse(item, f"{objection}; {publish_advice(objection)}", now_s)
                continue
            self._blame.taken(item, now_s)
            if item.row:
                self._to_mark.add(item.row)
        if self._to_mark:
            self._store.mark_sent(self._to_mark)
            self._to_mark.clear()
        if not self.inflight and not self._store.depth():
            self._blame.forget_rows()
        return refused

    def put_aside(self, gap: Callable[[Shed], Row], now_s: float) -> int:
        """Take hopeless rows out of the others' way; `gap` makes the account that is published. Returns how many."""
        if now_s - self._put_aside_at_s < PUT_ASIDE_S:
            return 0
        self._to_put_aside |= self._blame.hopeless()
        count = 0
        for why, items in _by_reason(self._to_put_aside).items():
            shed = self._store.put_aside([item.row for item in items], f"not taken by the broker: {why}"[:300], gap)
            count += sum(shed.counts.values()) if shed else 0
            for item in items:
                self._blame.put_aside(item, why, now_s)
                del self._to_put_aside[item]
            self._put_aside_at_s = now_s
        return count

    def _refuse(self, item: Item, why: str, now_s: float) -> None:
        self._blame.refused(item, why, now_s)
        until_s = self._blame.waits_until_s(item, now_s)
        if item.row and until_s is not None:
            self._again_s = min(self._again_s or until_s, until_s)


def _by_reason(items: dict[Item, str]) -> dict[str, list[Item]]:
    found: defaultdict[str, list[Item]] = defaultdict(list)
    for item, why in items.items():
        found[why].append(item)
    return found
