"""`trainer forget`: what a trainer and the site's store have of an identity, a camera or a time is erased, and a
receipt says what was, and what may still hold it.

    lease → take in what is new → who is it → tell the request to all (`forgotten.py`) → erase here and on the store

From the moment the request is told it is fulfilled by whatever comes first: this command, this command once more when
it was killed, or the next look that any `trainer adapt` takes at the store.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_app.contract.envelope import rfc3339
from edge_app.contract.errors import ContractError
from edge_app.contract.forgetting import Selection, continued, same_vehicle
from edge_app.contract.lease import Lease
from trainer.adapt import rounds
from trainer.adapt.commands.command import PATIENCE, Say, seeker, take_in, unchecked
from trainer.adapt.crops import erasing
from trainer.adapt.crops.erasing import Erased, Place
from trainer.adapt.settings import DAY_S, SiteSettings
from trainer.adapt.told import forgotten
from trainer.adapt.told.forgotten import Request
from trainer.errors import WorldError


@dataclass
class Receipt:
    """What was erased, and what is not ours to erase."""

    selection: dict[str, Any]
    forgotten_at: str
    dry_run: bool
    crops: int = 0
    passages: int = 0
    shards: int = 0
    shards_on_the_store: int | None = None  # a dry run does not look
    shards_that_were_damaged: list[str] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    round_under_way: str = "untouched"
    may_still_hold: list[str] = field(default_factory=list)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def lines(self) -> Iterator[str]:
        """The same for people."""
        done = "would be erased" if self.dry_run else "erased"
        yield f"{self.crops} crops of {self.passages} passages {done}, from {self.shards} shards"
        if self.shards_on_the_store is not None:
            yield (
                f"of these shards {self.shards_on_the_store} were on the site's store, and erased there; what else "
                "they hold stays, under new names"
            )
        if self.selection["identity"] and not self.crops:
            yield "shards name passages, not global ids: `edge-app forget` says which passages an identity has"
        if self.rounds:
            numbers = ", ".join(map(str, self.rounds))
            yield f"rounds {numbers}: their pages, pictures, features and clusters {done}"
        yield f"the round under way: {self.round_under_way}"
        yield from (f"given up, for the disk has damaged it: {name}" for name in self.shards_that_were_damaged)
        yield from (f"may still hold it: {one}" for one in self.may_still_hold)


def forget(settings: SiteSettings, selection: Selection, now_s: float, say: Say, *, dry_run: bool = False) -> Receipt:
    """Raises `WorldError` while another process is at work on the site, or when store or disk fail."""
    with _site(settings, dry_run=dry_run) as (site, still):
        take_in(site, now_s, say, still)
        request = _request(site, selection, now_s)
        found = erasing.look(site, [request])
        receipt = _receipt(selection, now_s, found, dry_run=dry_run)
        if not dry_run:
            requests = _ended(request, found, settings.site, now_s)
            still()
            forgotten.add(site.store, settings.site, requests, now_s - settings.keep.days * DAY_S)
            found = erasing.erase(site, requests, still)
            receipt.shards_on_the_store = found.on_the_store
        receipt.may_still_hold = list(_elsewhere(site, found))
    return receipt


@contextmanager
def _site(settings: SiteSettings, *, dry_run: bool) -> Iterator[tuple[Place, Callable[[], None]]]:
    """The site for this process, and what raises when it is another's. A dry run needs no lease."""
    if dry_run:
        with unchecked(settings) as site:
            yield site, lambda: None
        return
    try:
        with _lease(settings) as lease, unchecked(settings) as site:
            yield site, lease.check
    except ContractError as error:
        raise WorldError(str(error)) from error


def _lease(settings: SiteSettings) -> Lease:
    """Waits as long as shows whether an owner is alive."""
    seeking, begin_s = seeker(settings), time.monotonic()
    while (lease := seeking.look()) is None:
        if time.monotonic() - begin_s > PATIENCE * settings.watch.lease_s:
            raise WorldError(
                f"{settings.site}: {seeking.owner or 'another process'} is at work there; nothing is erased yet, ask "
                "again when it is done, or stop it"
            )
        time.sleep(settings.watch.lease_s / 20)
    return lease


def _request(site: Place, selection: Selection, now_s: float) -> Request:
    """In words that may be kept; an identity with all passages that belong to it, as far as the shards tell."""
    if selection.identity is None:
        since_s, until_s = (at_s if math.isfinite(at_s) else None for at_s in (selection.since_s, selection.until_s))
        return Request(asked_at_s=now_s, camera=selection.camera, since_s=since_s, until_s=until_s)
    records = (one for name in site.index.taken() for one in erasing.records_of(site, name) or ())
    links = ((record.passage, other) for record in records if (other := continued(record)) is not None)
    return forgotten.of_passages(site.settings.site, same_vehicle([selection.identity], links), now_s)


def _ended(request: Request, found: Erased, site: str, now_s: float) -> list[Request]:
    """What has no end ends now, for tomorrow's crops were not meant; those of a clock that is ahead go by name."""
    if request.passages or request.until_s is not None:
        return [request]
    ahead = [name for name, entered_s in found.passages.items() if entered_s > now_s]
    by_name = [forgotten.of_passages(site, ahead, now_s)] if ahead else []
    return [request.model_copy(update={"until_s": now_s}), *by_name]


def _receipt(selection: Selection, now_s: float, found: Erased, *, dry_run: bool) -> Receipt:
    return Receipt(
        selection.told(),
        rfc3339(now_s),
        dry_run,
        crops=found.crops,
        passages=len(found.passages),
        shards=len(found.shards),
        shards_that_were_damaged=found.lost,
        rounds=found.rounds,
        round_under_way="begins anew" if found.begun_anew else "untouched",
    )


def _elsewhere(site: Place, found: Erased) -> Iterator[str]:
    """What learned from it, and where it may be besides."""
    for number in _holding(site, found):
        yield (
            f"round {number}: its model and bundle were trained on crops that are forgotten, or go on from one that "
            "was; they hold no picture, and models are not untrained"
        )
    known = {one.number for one in rounds.every(site.own)}
    for stored in site.store.list(f"{site.settings.site}/models/"):
        made = stored.name.rpartition("/")[2].partition("-")[0]
        if made.isdigit() and int(made) not in known:
            yield f"{stored.name}: a model that another workstation made; `trainer forget` there knows what it used"
    for name, _ in site.index.aside():
        yield f"{name}: a shard on the store that cannot be read, and was set aside; delete it there"
    yield "nodes, and what they have not uploaded yet: `edge-app forget` on each of them"
    yield "other workstations: each erases it when it looks at the store next, as `trainer adapt --dry-run` does"
    yield "copies that were made: pages of rounds that were sent on, backups, older versions that a bucket keeps"


def _holding(site: Place, found: Erased) -> list[int]:
    """Accepted rounds that used what is forgotten, now or before, and those that went on from their models."""
    holding: list[int] = []
    for one in rounds.every(site.own):
        went_on = one.current and rounds.number_of(one.current) in holding
        if one.decision == "accepted" and (one.forgotten or one.number in found.rounds or went_on):
            holding.append(one.number)
    return holding
