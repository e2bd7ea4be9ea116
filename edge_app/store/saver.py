"""Commits for a pipeline that goes on matching while the disk does not take anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from edge_app.errors import StoreError
from edge_app.store.rows import Row, Shed
from edge_app.store.store import Store, StoreSettings

ROWS_IN_MEMORY = 20_000  # some 20 MB
RETRY_S = 1.0


class Saver:
    """What could not be written is kept in memory and written later, in order; `problem` says so meanwhile.

    A process that dies meanwhile resumes from the last commit; what it had not committed it had not published either.
    """

    def __init__(self, store: Store, limits: StoreSettings, gap: Callable[[Shed], Row]) -> None:
        self.problem: str | None = None
        self._store, self._limits, self._gap = store, limits, gap
        self._parts: dict[str, bytes | None] = {}
        self._rows: list[Row] = []
        self._failing_since_s = self._failed_at_s = 0.0
        self._lost: Counter[str] = Counter()

    def save(self, parts: Mapping[str, bytes | None], rows: Sequence[Row], now_s: float) -> bool:
        """True when everything up to now is on the disk. Never raises StoreError. `now_s` is wall-clock time."""
        self._parts.update(parts)
        self._rows.extend(rows)
        if self.problem and now_s < self._failed_at_s + RETRY_S:
            self._bound()
            return False
        try:
            self._store.commit(self._parts, self._rows + self._account(now_s))
            self._parts, self._rows, self._lost = {}, [], Counter()
            self._store.shed(self._limits, self._gap)
        except StoreError as error:
            if self.problem is None:
                self._failing_since_s = now_s
            self.problem, self._failed_at_s = str(error), now_s
            self._bound()
            return False
        self.problem = None
        return True

    def _bound(self) -> None:
        """At most ROWS_IN_MEMORY; provisional matches go first, then the oldest."""
        if len(self._rows) <= ROWS_IN_MEMORY:
            return
        firm = [row for row in self._rows if row.kind != "match_provisional"]
        lost = [row for row in self._rows if row.kind == "match_provisional"] + firm[:-ROWS_IN_MEMORY]
        self._lost.update(row.kind for row in lost)
        self._rows = firm[-ROWS_IN_MEMORY:]

    def _account(self, now_s: float) -> list[Row]:
        if not self._lost:
            return []
        return [self._gap(Shed(dict(self._lost), self._failing_since_s, now_s, "the disk took nothing"))]
