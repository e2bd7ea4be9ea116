"""One owner at a time for a name on the store: `trainer adapt` takes a site so, on whatever workstation it runs.

    seeker = Seeker(store, "berlin/lock", owner="workstation-2 4711")
    lease = seeker.look()                # None while somebody else has it; look again every few seconds
    with lease:                          # a thread renews it
        while work: lease.check()        # raises LeaseLostError; or watch the event `lease.lost`
        lease.renew()                    # right before what must not be done by two: raises LeaseLostError

The lock object is JSON: who owns it, for how long without renewal, and a number that no other write ever has. Every
change is conditional on the etag that was read, so of several takers one succeeds.

Rule for a dead owner's lease. No two machines' clocks are compared. A taker sees the same etag at two times of its own
clock that lie the object's `lease_s` apart: then the owner has not renewed it in between, and it is replaced. An owner
counts from before it asked for its last renewal, renews after a quarter of `lease_s`, and calls it lost after
three quarters, or at once when the etag is another's. So the owner has stopped before a taker can begin, as long as no
clock runs a quarter too fast. Both count the time in which a machine sleeps.

A process that is frozen between `check` and what it does then is not held back by any lease: hence `renew` before what
counts, and conditional writes (`create`) for what must be there once.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_app.contract.errors import (
    LeaseLostError,
    ObjectMissingError,
    ObjectStoreError,
    ObjectStoreRefusedError,
    ObjectTakenError,
)
from edge_app.contract.objects import ObjectStore

log = logging.getLogger(__name__)

LEASE_S = 300.0
RENEW_AFTER, LOST_AFTER = 0.25, 0.75  # shares of the lease
RELEASE_WITHIN_S = 5.0


class Lock(BaseModel):
    """The object's content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["crosslane-lease/1"] = "crosslane-lease/1"
    owner: str | None = Field(max_length=200)
    """None when it was given back."""
    lease_s: float = Field(gt=0, le=86_400)
    """Without renewal for so long, whoever watched it may take it."""
    nonce: str = Field(default_factory=lambda: secrets.token_hex(16), max_length=64)


def elapsed_s() -> float:
    """Monotonic seconds, those in which the machine slept included, where the system counts them."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(boot_time)


class Seeker:
    """Watches one lock, and takes it when it is free or its owner is dead."""

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        owner: str,
        lease_s: float = LEASE_S,
        *,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        self._store, self._name, self._clock = store, name, clock
        self._wanted = Lock(owner=owner, lease_s=lease_s)
        self._seen: tuple[str, float] | None = None  # an etag, and when it was first seen
        self.owner: str | None = None  # who had it when it was last looked at

    def look(self) -> Lease | None:
        """The lease, or None while somebody else has it. Raises ObjectStoreError when the store cannot be asked, or
        the object is no lock."""
        began_s = self._clock()
        mine = self._wanted.model_copy(update={"nonce": secrets.token_hex(16)})
        content = mine.model_dump_json().encode()
        try:
            etag = self._take(content, began_s)
        except ObjectTakenError:  # somebody was faster
            return None
        if etag is None:
            return None
        self._seen, self.owner = None, mine.owner
        return Lease(self._store, self._name, mine, (etag, began_s), self._clock)

    def _take(self, content: bytes, now_s: float) -> str | None:
        try:
            found, etag = self._store.read(self._name)
        except ObjectMissingError:
            return self._store.create(self._name, content)
        lock = self._lock(found)
        self.owner = lock.owner
        if lock.owner is not None and not self._is_dead(etag, lock.lease_s, now_s):
            return None
        if lock.owner is not None:
            log.warning("%s: %s has not renewed its lease for %g s: taken over", self._name, lock.owner, lock.lease_s)
        return self._store.replace(self._name, content, etag)

    def _is_dead(self, etag: str, lease_s: float, now_s: float) -> bool:
        """`now_s` is from before the lock was read: what is seen for the first time may have been written since."""
        if self._seen is None or self._seen[0] != etag:
            self._seen = etag, self._clock()
        return now_s - self._seen[1] >= lease_s

    def _lock(self, content: bytes) -> Lock:
        try:
            return Lock.model_validate_json(content)
        except ValidationError:
            raise ObjectStoreRefusedError(
                f"{self._store.where}: {self._name} is no lock of this release; if nobody works there, delete it"
            ) from None


class Lease:
    """A lock that is ours. Within `with` a thread renews it; it is given back at the end."""

    def __init__(
        self, store: ObjectStore, name: str, lock: Lock, taken: tuple[str, float], clock: Callable[[], float]
    ) -> None:
        """`taken`: its etag, and the time on `clock` from before it was asked for."""
        self.lost = threading.Event()
        self._store, self._name, self._lock, self._clock = store, name, lock, clock
        self._etag, self._held_since_s = taken
        self._why = ""
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"lease of {name}", daemon=True)

    def __enter__(self) -> Lease:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Given back, so that the next need not wait; what fails then is only said."""
        self._over.set()
        self._keeper.join(RELEASE_WITHIN_S)
        try:
            self.release()
        except ObjectStoreError as failed:
            log.warning("%s: not given back, the next has to wait: %s", self._name, failed)

    def check(self) -> None:
        """Raises LeaseLostError when it is, or may be, another's. Asks nobody."""
        if not self._why and self._clock() - self._held_since_s > LOST_AFTER * self._lock.lease_s:
            self._lose(f"not renewed for {self._clock() - self._held_since_s:.0f} s")
        if self._why:
            raise LeaseLostError(f"{self._name}: the lease of {self._lock.owner} is lost: {self._why}; start again")

    def renew(self) -> None:
        """Now. Raises LeaseLostError, or ObjectStoreError when the store cannot be asked."""
        with self._turn:
            self.check()
            self._write(self._lock.owner)

    def release(self) -> None:
        """Give it back; nothing happens where it is lost."""
        with self._turn:
            if not self._why:
                self._write(None)
                self._lose("it was given back")

    def _write(self, owner: str | None) -> None:
        began_s = self._clock()
        lock = self._lock.model_copy(update={"owner": owner, "nonce": secrets.token_hex(16)})
        try:
            self._etag = self._store.replace(self._name, lock.model_dump_json().encode(), self._etag)
        except (ObjectTakenError, ObjectMissingError):
            self._lose("somebody took it over" if owner else "it was another's already")
            self.check()
        self._held_since_s = began_s

    def _lose(self, why: str) -> None:
        self._why = why
        self.lost.set()

    def _keep(self) -> None:
        """The thread. A store that is away is asked again until the lease is over."""
        while not self._over.wait(RENEW_AFTER * self._lock.lease_s / 2):
            try:
                self.check()
                if self._clock() - self._held_since_s >= RENEW_AFTER * self._lock.lease_s:
                    self.renew()
            except LeaseLostError as error:
                log.warning("%s", error)
                return
            except ObjectStoreError as error:
                log.warning("%s: not renewed: %s", self._name, error)
