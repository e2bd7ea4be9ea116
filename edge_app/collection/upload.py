"""Closed shards to the store, one after the other, on a thread of its own; matching never waits for it.

    closed() → hours → put, paced → confirmed by digest at the other end → audit log → confirmed(): deleted here

Whatever happens between two of these, the next turn begins at the first, and what is at the other end already is not
sent again: a shard is never lost and never there twice. A shard's name says its digest. So where the other end has
something else under that name, it is damaged there: it is deleted and sent once more. A file that is damaged here is
given up, and told. A store that is away is tried for ever, one that refuses as well, but seldom.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_app.clock import Clock
from edge_app.collection.audit import Audit
from edge_app.collection.closed import ClosedShard
from edge_app.collection.pacing import LONGEST_WAIT_S, End, Hours, Patience, Rate, may_send, zone_of
from edge_app.collection.upload_settings import UploadSettings
from edge_app.contract.errors import (
    ObjectDamagedError,
    ObjectStoreError,
    ObjectStoreRefusedError,
    ObjectTakenError,
)
from edge_app.contract.objects import open_store, sha256_of
from edge_app.errors import ConfigurationError, StoreError

log = logging.getLogger(__name__)

IDLE_S = 2.0  # so often somebody looks whether a shard was closed
SWEEP_S = 86_400.0
TOLD_AFTER_S = 60.0  # a store that is away for less is no news


class Shards(Protocol):
    """Where shards wait; see `Spool`."""

    def closed(self) -> Sequence[ClosedShard]: ...

    def confirmed(self, name: str) -> bool: ...

    def damaged(self, name: str) -> bool: ...


class Uploader:
    """`start` it and `close` it; or `send_all` without the thread."""

    def __init__(
        self,
        settings: UploadSettings,
        owner: tuple[str, str],
        spool: Shards,
        clock: Clock,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`owner`: site and node. `chance` as in `Patience`. Raises ConfigurationError for variables that are not set
        and libraries that are missing."""
        self.counters: Counter[str] = Counter()  # since the start
        self._settings, self._spool, self._clock = settings, spool, clock
        self._stop = threading.Event()
        try:
            self._store = open_store(settings.store, self._stop)
        except ObjectStoreRefusedError as error:
            raise ConfigurationError([f"upload.store: {error}"]) from None
        self._folder = "{}/crops/{}".format(*owner)
        self._hours, self._zone = [Hours.parse(each) for each in settings.hours], zone_of(settings.time_zone)
        self._rate = Rate(settings.bytes_per_s, clock.monotonic)
        spans_s: dict[End, tuple[float, float]] = {
            "away": (settings.away_min_s, settings.away_max_s),
            "refused": (settings.refused_min_s, settings.refused_max_s),
        }
        self._patience = Patience(spans_s, chance)
        self._audit = Audit(settings.audit, settings.audit_bytes, clock.wall)
        self._aside: dict[str, float] = {}  # shards that alone have failed → when they are tried again
        self._failing: tuple[str, float] | None = None  # why, and since when
        self._sweep_at_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, limit_s: float) -> None:
        """Ends within so long. A transfer is cut off, and begun anew after the next start."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(limit_s)
        if self._thread.is_alive():
            log.warning("upload: %s does not let go within %.1f s, left behind", self._store.where, limit_s)
        else:
            self._store.close()

    @property
    def problem(self) -> str | None:
        """What ails it, once it has lasted."""
        failing = self._failing
        if failing is None or self._clock.monotonic() - failing[1] < TOLD_AFTER_S:
            return None
        return f"upload: {failing[0]}"

    @property
    def may_send(self) -> bool:
        """Is it one of its hours."""
        return may_send(self._hours, self._zone, self._clock.wall())

    def send_all(self) -> None:
        """Every closed shard now, whatever the hour. Raises ObjectStoreError at the first that fails, StoreError when
        the disk fails."""
        for shard in self._spool.closed():
            self._settle(shard)

    def turn(self) -> float:
        """Send the next shard, if there is one and it is time; seconds to wait before the next turn."""
        if not self.may_send:
            return LONGEST_WAIT_S
        shard = self._next()
        if shard is None:
            return IDLE_S
        try:
            self._settle(shard)
        except (ObjectStoreError, StoreError) as error:
            return self._failed(shard, error)
        if self._failing is not None:
            log.info("upload: goes on")
        self._failing = None
        self._patience.succeeded()
        self._sweep()
        return 0.0

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                pause_s = self.turn()
            except Exception:  # crops must not end because of one mistake
                log.exception("upload: unexpected error")
                pause_s = LONGEST_WAIT_S
            self._stop.wait(pause_s)

    def _next(self) -> ClosedShard | None:
        """The oldest that is not set aside."""
        now_s, shards = self._clock.monotonic(), self._spool.closed()
        self._aside = {one.name: self._aside[one.name] for one in shards if self._aside.get(one.name, now_s) > now_s}
        return next((one for one in shards if one.name not in self._aside), None)

    def _settle(self, shard: ClosedShard) -> None:
        """Sent, or given up because it is damaged here."""
        try:
            self._send(shard)
        except (ObjectDamagedError, ObjectTakenError) as error:
            self._doubt(shard, error)

    def _send(self, shard: ClosedShard) -> None:
        began_s = self._clock.monotonic()
        try:
            was_sent = self._store.put(f"{self._folder}/{shard.name}", shard.path, shard.sha256, self._rate)
        except FileNotFoundError:
            self._miss(shard)
            return
        except OSError as error:
            raise StoreError(f"shard {shard.path} cannot be read: {error.strerror or error}") from error
        seconds = round(self._clock.monotonic() - began_s, 3)
        self._note("sent" if was_sent else "was there", shard, crops=shard.contents.crops, seconds=seconds)
        self._spool.confirmed(shard.name)
        self.counters["shards_sent" if was_sent else "shards_there_already"] += 1
        self.counters["shard_bytes_sent"] += shard.bytes if was_sent else 0

    def _miss(self, shard: ClosedShard) -> None:
        """No such file. Given up by the spool meanwhile, and counted there; or somebody took it."""
        if any(one.name == shard.name for one in self._spool.closed()):
            self.counters["shards_damaged_here"] += 1
            self._note("missing here", shard)
            self._spool.damaged(shard.name)

    def _doubt(self, shard: ClosedShard, error: ObjectStoreError) -> None:
        """Whose bytes are wrong? Raises `error` when it was the other end, or the way there."""
        try:
            is_damaged_here = sha256_of(shard.path) != shard.sha256
        except FileNotFoundError:
            return
        except OSError:
            is_damaged_here = True
        if is_damaged_here:
            self.counters["shards_damaged_here"] += 1
            self._note("damaged here", shard)
            self._spool.damaged(shard.name)
            return
        self.counters["shards_damaged_there"] += 1
        self._aside[shard.name] = self._clock.monotonic() + self._settings.away_max_s
        self._store.delete(f"{self._folder}/{shard.name}")
        self._note("damaged there", shard, error=str(error))
        del self._aside[shard.name]
        raise error

    def _failed(self, shard: ClosedShard, error: Exception) -> float:
        if self._stop.is_set():
            return 0.0
        self.counters["uploads_failed"] += 1
        reason, now_s = str(error), self._clock.monotonic()
        if self._failing is None or self._failing[0] != reason:
            log.warning("upload: %s", reason)
        self._failing = reason, self._failing[1] if self._failing else now_s
        if not isinstance(error, StoreError):
            try:
                self._note("failed", shard, error=reason)
            except StoreError as unwritten:
                log.warning("%s", unwritten)
        return self._patience.pause_s("refused" if isinstance(error, ObjectStoreRefusedError) else "away")

    def _note(self, event: str, shard: ClosedShard, **more: object) -> None:
        """Nothing is deleted of which the log does not tell: where it cannot be written, shards wait."""
        facts = {"shard": shard.name, "sha256": shard.sha256, "bytes": shard.bytes}
        try:
            self._audit.note(event, **facts, to=f"{self._store.where}: {self._folder}", **more)
        except OSError as error:
            raise StoreError(f"upload.audit {self._audit.path}: {error.strerror or error}") from error

    def _sweep(self) -> None:
        """Once a day, and a store that refuses it is no worse for that."""
        if self._clock.monotonic() < self._sweep_at_s:
            return
        self._sweep_at_s = self._clock.monotonic() + SWEEP_S
        try:
            if swept := self._store.sweep(self._folder):
                log.info("upload: %d interrupted transfers of earlier days cleared away", swept)
        except ObjectStoreError as error:
            log.info("upload: what earlier transfers left behind stays: %s", error)
