"""Which messages does the broker not take, and since when. Pure: monotonic times are passed in.

A broker says so in a PUBACK (MQTT 5), or it hangs up. When it hung up on several messages at once, each of them is sent
alone on the next connection: the one that is alone when it hangs up again is to blame. What was not taken is offered
again, ever less often; the others go on. It is hopeless when it failed often enough while the broker took other
messages: a broker that takes nothing at all is not the fault of a message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_WAIT_S = 600.0
PROOFS = 2  # failures while others are taken; before that it may have been the broker's fault
PROOF_S = 10.0  # a message taken so shortly before the first failure proves as much as one taken after it
REMEMBERED_S = 600.0  # how long a failure stays news


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the outbox, or (row 0) the retained message of a topic."""

    row: int
    topic: str

    @property
    def can_be_put_aside(self) -> bool:
        """A retained message is said again anyway; the account of what was lost is offered for ever."""
        return self.row != 0 and not self.topic.endswith("/event/gap")


@dataclass(slots=True)
class _Failure:
    first_s: float
    again_s: float  # not before
    why: str
    count: int = 0
    against: int = 0  # of these, while the broker took other rows


class Blame:
    """Used by one thread."""

    def __init__(self, offers: int, offer_again_s: float) -> None:
        self._offers, self._offer_again_s = offers, offer_again_s
        self._failures: dict[Item, _Failure] = {}
        self._suspects: set[Item] = set()  # were in flight together when a connection ended
        self._alone: set[Item] = set()  # among the failures: the broker hung up on it
        self._taken_s = float("-inf")  # when the broker last took a row
        self._news: dict[tuple[str, str], float] = {}  # (topic, why) → when

    def taken(self, item: Item, now_s: float) -> None:
        """The broker acknowledged it."""
        if item in self._failures:  # what ailed its topic has passed
            self._news = {key: at_s for key, at_s in self._news.items() if key[0] != item.topic}
        self.forget([item])
        if item.row:
            self._taken_s = now_s

    def refused(self, item: Item, why: str, now_s: float) -> None:
        """The broker said that it does not take it."""
        self._suspects.discard(item)
        self._fail(item, why, now_s)

    def ended(self, inflight: Iterable[Item], why: str, now_s: float) -> None:
        """The connection ended with these messages unanswered."""
        items = set(inflight)
        if len(items) != 1:
            self._suspects |= items
            return
        (item,) = items
        self._suspects.discard(item)
        count = self._fail(item, f"the connection ends when it is sent ({why})", now_s)
        self._alone.add(item)
        if count == 1:  # once is no pattern: the next connection begins with it, as with any other
            self._failures[item].again_s = now_s
            self._news.pop((item.topic, self._failures[item].why), None)

    def put_aside(self, item: Item, why: str, now_s: float) -> None:
        """It is no longer offered."""
        self.forget([item])
        self._news[item.topic, why] = now_s

    def forget(self, items: Iterable[Item]) -> None:
        for item in items:
            self._suspects.discard(item)
            self._alone.discard(item)
            self._failures.pop(item, None)

    def forget_rows(self) -> None:
        """The outbox is empty: what is remembered of its rows is about none."""
        self.forget([item for item in (*self._failures, *self._suspects) if item.row])

    def waits_until_s(self, item: Item, now_s: float) -> float | None:
        """When it is to be offered again; None when that is now."""
        failure = self._failures.get(item)
        return failure.again_s if failure is not None and now_s < failure.again_s else None

    def alone(self, now_s: float) -> set[Item]:
        """What has to be sent now, each with nothing else in flight."""
        return self._suspects | {item for item in self._alone if now_s >= self._failures[item].again_s}

    def hurried(self) -> bool:
        """The last connections ended with messages in flight: what matters most goes first."""
        return bool(self._suspects or self._alone)

    def hopeless(self) -> dict[Item, str]:
        """Rows to put aside, each with the reason."""
        return {
            item: one.why
            for item, one in self._failures.items()
            if one.count >= self._offers and one.against >= PROOFS and item.can_be_put_aside
        }

    def problem(self, now_s: float) -> str | None:
        """What the broker did not take of late, in words that stay the same while it goes on."""
        self._news = {key: at_s for key, at_s in self._news.items() if now_s - at_s < REMEMBERED_S}
        said = [f"{topic}: {why}" for topic, why in sorted(self._news)]
        more = f" and {len(said) - 2} more" if len(said) > 2 else ""
        return f"the broker does not take {'; '.join(said[:2])}{more}" if said else None

    def _fail(self, item: Item, why: str, now_s: float) -> int:
        """How often it failed by now."""
        failure = self._failures.setdefault(item, _Failure(now_s, now_s, why))
        failure.count, failure.why = failure.count + 1, why
        failure.against += self._taken_s >= failure.first_s - PROOF_S
        failure.again_s = now_s + min(self._offer_again_s * 2 ** min(failure.count - 1, 60), LONGEST_WAIT_S)
        self._news[item.topic, why] = now_s
        return failure.count
