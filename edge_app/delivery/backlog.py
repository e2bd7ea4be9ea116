"""The outbox as one connection sees it: what comes next, what is in flight, what has to be marked sent."""

from __future__ import annotations

import logging
import time
from collections import deque

from edge_app.store.store import Pending, Store

log = logging.getLogger(__name__)

PAGE_ROWS = 100
TRY_REFUSED_AGAIN_S = 30.0
RETAINED = 0  # stands for a row id where the message is not in the outbox; rows count from 1


class Backlog:
    """Used by the publisher's thread alone, apart from looking at `inflight`."""

    def __init__(self, store: Store) -> None:
        self.inflight: dict[int, int] = {}  # number of the message on this connection → row id
        self._store = store
        self._page: deque[Pending] = deque()
        self._to_mark: set[int] = set()  # acknowledged, but the disk did not take the mark yet
        self._last_id = 0
        self._empty = False
        self._again_at_s: float | None = None  # when rows that the broker refused are offered again

    def rewind(self) -> None:
        """A new connection: offer everything unacknowledged again."""
        self.inflight.clear()
        self._restart()

    def _restart(self) -> None:
        self._page.clear()
        self._last_id, self._empty, self._again_at_s = 0, False, None

    def peek(self) -> Pending | None:
        """The next row to send, or None."""
        if self._again_at_s is not None and time.monotonic() > self._again_at_s:
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
            known = self._to_mark.union(self.inflight.values())
            self._page.extend(row for row in rows if row.id not in known)
        return self._page[0]

    def sent(self, number: int) -> None:
        """The row last peeked at is on its way under this number."""
        self.inflight[number] = self._page.popleft().id

    def sent_retained(self, number: int) -> None:
        """A message that is not in the outbox is on its way under this number."""
        self.inflight[number] = RETAINED

    def settle(self, acknowledged: list[tuple[int, str | None]]) -> None:
        """Mark what the broker took; what it refused is offered again later, and does not stop the others."""
        for number, objection in acknowledged:
            row_id = self.inflight.pop(number, RETAINED)
            if row_id == RETAINED:
                if objection:
                    log.warning("the broker refused a retained message: %s; check its ACL", objection)
            elif objection is None:
                self._to_mark.add(row_id)
            else:
                log.warning("the broker refused message %d of the outbox: %s; check its ACL", row_id, objection)
                self._again_at_s = self._again_at_s or time.monotonic() + TRY_REFUSED_AGAIN_S
        if self._to_mark:
            self._store.mark_sent(self._to_mark)
            self._to_mark.clear()
