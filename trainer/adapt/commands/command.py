"""`trainer adapt`: what is done and said, in which order, for one site or many."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from edge_app.contract.errors import ContractError
from edge_app.contract.lease import Lease, Seeker
from edge_app.contract.objects import open_store
from trainer.adapt import rounds
from trainer.adapt.crops import erasing, trained_on
from trainer.adapt.crops.choice import choose
from trainer.adapt.crops.erasing import Place
from trainer.adapt.crops.index import Index
from trainer.adapt.crops.ingest import Ingested, ingest, own_folder
from trainer.adapt.crops.material import Material
from trainer.adapt.hearing import anchor
from trainer.adapt.page import reporting
from trainer.adapt.settings import DAY_S, SiteSettings
from trainer.adapt.stages import training
from trainer.adapt.told import forgotten, shared
from trainer.errors import TrainerError, WorldError

NAMES_SHOWN = 10
PATIENCE = 1.2  # leases that `once` waits to see whether the owner of one is alive
Say = Callable[[str], None]


@contextmanager
def opened(settings: SiteSettings) -> Iterator[Place]:
    """Raises `WorldError` for what time or a person must mend, `ConfigurationError` for a training configuration that
    cannot be used."""
    training.check(settings)
    with unchecked(settings) as site:
        yield site


@contextmanager
def unchecked(settings: SiteSettings) -> Iterator[Place]:
    """As `opened`, for what needs no training."""
    with own_folder(settings) as folder:
        index = Index(folder / "index.db")
        try:
            store = open_store(settings.store)
            try:
                yield Place(settings, store, index)
            finally:
                store.close()
        except ContractError as error:  # of the store, of a lease that was lost
            raise WorldError(str(error)) from error
        finally:
            index.close()


def seeker(settings: SiteSettings) -> Seeker:
    """For the site's lease; with a connection of its own, because a thread of its own renews it."""
    owner = f"{platform.node()} {os.getpid()}"
    return Seeker(open_store(settings.store), f"{settings.site}/lock", owner, settings.watch.lease_s)


def take_in(site: Place, now_s: float, say: Say, still: Callable[[], None] = lambda: None) -> Ingested:
    """Ingest, and say what came and what did not; what is past its days, or was forgotten elsewhere, goes first."""
    rounds.clear(site.own, now_s - site.settings.keep.days * DAY_S)
    told, _ = forgotten.read(site.store, site.settings.site)
    if asked := erasing.pending(site.own, told):
        gone = erasing.erase(site, asked, still)
        say(f"{site.settings.site}: {len(asked)} requests to forget are fulfilled here: {gone.crops} crops erased")
    result = ingest(site.settings, site.store, site.index, now_s, lambda _: None, told=told)
    for line in lines_of(result):
        say(f"{site.settings.site}: {line}")
    return result


def lines_of(result: Ingested) -> list[str]:
    """What one look at the store brought, each loss by name."""
    lines = [
        f"{result.taken} new shards of {result.listed} objects; {result.new} new crops, {result.controls} of them "
        f"controls; not used: {result.again} there already, {result.same} the same picture, {result.near} nearly the "
        f"same, {result.bad} no picture"
    ]
    if result.unlike:
        lines.append(
            f"{result.unlike} crops are of another passage under a name that was there already, and not used: do two "
            "nodes have one name, or was one set up anew with its old boot?"
        )
    if result.expired or result.deleted:
        lines.append(f"{len(result.expired)} shards are past their days and gone, {result.deleted} from the store")
    if result.forgotten:
        lines.append(
            f"{result.forgotten} crops came once more that somebody had forgotten: not taken, and deleted there"
        )
    lists = (
        ("set aside for good", [f"{name}: {reason}" for name, reason in result.aside]),
        ("not had this time, tried again next time", [f"{name}: {reason}" for name, reason in result.later]),
        ("no shards by their names, left alone", result.foreign),
    )
    for title, items in lists:
        if items:
            lines.append(f"{len(items)} {title}")
            lines += [f"  {item}" for item in items[:NAMES_SHOWN]]
            lines += [f"  … and {len(items) - NAMES_SHOWN} more"] * (len(items) > NAMES_SHOWN)
    return lines


def dry_run(settings: SiteSettings, now_s: float, say: Say) -> Material:
    """Ingest, and say what an adaptation would be made of. Needs no lease: nothing of it is told to others."""
    with opened(settings) as site:
        take_in(site, now_s, say)
        known, _ = site.index.usable(site.index.newest())
        told, _ = shared.read(site.store, settings.site)
        trained_on.add(site.own, told.trained)  # kept: `trainer gate` judges by this folder, and asks no store
        choice = choose(known, settings.keep, settings.site, trained_on.read(site.own))
        about = [site.index.about(known.ids[rows]) for rows in (choice.trained, choice.judged)]
        material, there = Material.of(*about), site.index.facts()
    cameras = ", ".join(f"{name} {count}" for name, count in material.cameras.items()) or "none"
    say(
        f"{settings.site}: there are {there.crops} crops of {there.passages} passages in {there.shards} shards, "
        f"{there.controls} of them controls, over {there.hours} hours; {there.aside} shards are set aside"
    )
    say(
        f"{settings.site}: would train on {material.crops} crops of {material.passages} passages over "
        f"{material.hours} hours, by camera: {cameras}"
    )
    say(
        f"{settings.site}: would judge on {material.judged_crops} crops of {material.judged_passages} passages of "
        f"{len(choice.held_hours)} held-out hours"
    )
    for line in choice.sentences:
        say(f"{settings.site}: {line}")
    unknown = {name for link in settings.links for name in (link.from_camera, link.to_camera)} - set(there.cameras)
    if unknown:
        say(f"{settings.site}: no crop has come from {', '.join(sorted(unknown))}, which links name")
    return material


def work(settings: SiteSettings, lease: Lease, now_s: float, say: Say, *, least: int = 0) -> str:
    """Ingest, adapt, decide, tell; the decision, or `waits` with fewer new passages than `least` and no round that was
    broken off."""
    from trainer.adapt.stages.adapt import adapt  # torch only where it is needed

    with opened(settings) as site:
        take_in(site, now_s, say, lease.check)
        told, etag = shared.read(site.store, settings.site)
        one = catch_up(site, told, say)
        new = site.index.passages(shared.new_shards(told, site.index.taken()))
        if one is None and new < least:
            say(f"{settings.site}: {new} new passages, waits for {least}")
            return "waits"
        one = adapt(settings, site.index, told.round + 1, now_s, say=say, still=lease.renew)
        kept = anchor.read(settings.folder)
        values = {"round": one.number, "seen": {**told.seen, **one.seen}, "anchor": kept.hours}
        values["trained"] = trained_on.read(settings.folder)
        if one.decision == "accepted":
            model = settings.folder / rounds.current_model(settings.folder)
            name, sha256 = shared.send_model(site.store, settings.site, one.number, model)
            values |= {"model": name, "sha256": sha256, "model_round": one.number}
            if kept.best == one.number:
                values |= {"best": name, "best_sha256": sha256, "best_round": one.number}
        lease.renew()
        shared.write(site.store, settings.site, told.model_copy(update=values), etag)
    said = "the new model is in force" if one.decision == "accepted" else "the model in force stays"
    where = f": {rounds.folder_of(settings.folder, one.number) / 'site.bundle'}" if one.decision == "accepted" else ""
    say(f"{settings.site}: round {one.number}: {said}{where or f': {one.reason}'}")
    return one.decision


def catch_up(site: Place, told: shared.Adapted, say: Say) -> rounds.Round | None:
    """The round of this folder that is not told yet: broken off, or decided and then broken off. What others have done
    since is taken over: their model is fetched, and a round of ours that they have overtaken is over, with its page."""
    own = site.own
    one = rounds.latest(own)
    if one is not None and not one.decision and one.number <= told.round:
        one.overtaken, one.reason = True, f"another process has decided round {told.round} since"
        say(f"{site.settings.site}: round {one.number} is given up: {one.reason}")
        reporting.write(site.settings, one, say)
        rounds.close(own, one, "kept")
    if told.model is not None and told.model_round > rounds.current_round(own):
        _fetch(site, told.model, told.model_round, told.sha256)
        rounds.put_in_force(own, told.model_round)
    trained_on.add(own, told.trained)
    if told.round and (one is None or one.number <= told.round):
        if told.best is not None and not (own / rounds.model_name(told.best_round)).is_file():
            _fetch(site, told.best, told.best_round, told.best_sha256)
        before, since = anchor.read(own), anchor.Anchor(told.anchor, told.best_round)
        if (before.hours, before.best) != (since.hours, since.best):
            anchor.save(own, since)
    return one if one is not None and one.number > told.round else None


def _fetch(site: Place, name: str, number: int, sha256: str | None) -> None:
    """The model of a round that another process did, into its place."""
    path = site.settings.folder / rounds.model_name(number)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    site.store.get(name, path, sha256)


def rehearse(sites: Sequence[SiteSettings], say: Say) -> int:
    """`dry_run` of every site; how many failed."""
    failed = 0
    for settings in sites:
        try:
            dry_run(settings, time.time(), say)
        except TrainerError as error:
            failed += 1
            say(f"{settings.site}: {error}")
    return failed


def once(sites: Sequence[SiteSettings], say: Say) -> int:
    """Every site once, also when one fails; how many failed or were another's. What is wrong with one is said."""
    failed = 0
    for settings in sites:
        seeking, begin_s = seeker(settings), time.monotonic()
        while (found := _tried(settings, seeking, say, None)) == "busy":
            if time.monotonic() - begin_s > PATIENCE * settings.watch.lease_s:
                break
            time.sleep(settings.watch.lease_s / 20)  # if its owner died, it will be seen not to have renewed it
        failed += found in {"failed", "busy"}
    return failed


def watch(sites: Sequence[SiteSettings], say: Say, stop: Event | None = None) -> int:
    """Again and again the next site that is free and has enough that is new; until `stop` is set."""
    stop, seekers = stop or Event(), {settings.site: seeker(settings) for settings in sites}
    due_s = dict.fromkeys(seekers, 0.0)
    while not stop.is_set():
        for settings in sites:
            if time.monotonic() >= due_s[settings.site] and not stop.is_set():
                _tried(settings, seekers[settings.site], say, settings.watch.passages)
                due_s[settings.site] = time.monotonic() + settings.watch.every_s
        stop.wait(max(0.0, min(due_s.values()) - time.monotonic()))
    return 0


def _tried(settings: SiteSettings, seeking: Seeker, say: Say, least: int | None) -> str:
    """What became of it: a decision, `waits`, `busy` or `failed`."""
    try:
        before = seeking.owner
        lease = seeking.look()
        if lease is None:
            if seeking.owner != before:
                say(f"{settings.site}: {seeking.owner or 'another process'} is at work there")
            return "busy"
        with lease:
            return work(settings, lease, time.time(), say, least=least or 0)
    except (ContractError, TrainerError) as error:
        say(f"{settings.site}: {error}")
        return "failed"
