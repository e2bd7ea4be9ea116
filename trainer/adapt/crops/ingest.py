"""New shards from the site's store into the trainer's own folder: every accepted crop exactly once.

    list the store → for each name that is new: get → verify → `shards/NAME` → one transaction with its crops

What ends this anywhere, it is begun again and comes to the same: a shard counts when its transaction is done, and what
was on its way is fetched anew. A name is never taken twice; a crop that comes again in another shard is known by its
key, and a picture that comes again under another key by its bytes: counted, not used.

What is wrong with a shard when it is fetched twice and wrong in the same way is wrong with the shard: it is set aside
by name with the reason, and not tried again. Two fetches that differ mean that the way damages it: it is tried again
next time. The store's own half-written objects are never listed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_app.contract.crop import Crop
from edge_app.contract.errors import ObjectDamagedError, ObjectMissingError, ShardError
from edge_app.contract.objects import ObjectStore
from edge_app.contract.shard import LARGEST_SHARD_BYTES, ShardName, read_shard
from edge_app.contract.whole import sync_folder
from trainer.adapt.crops.index import Index, Row
from trainer.adapt.crops.near import first_of_each, picture_hash
from trainer.adapt.settings import DAY_S, SiteSettings
from trainer.adapt.told.forgotten import NOTHING, Forgotten, exchange, without
from trainer.errors import WorldError

SHARDS, COMING = "shards", "coming"


@dataclass(slots=True)
class Ingested:
    """What one look at the store brought. Every crop of a shard that was taken is in one of these counts."""

    listed: int = 0  # objects below the site's prefix
    foreign: list[str] = field(default_factory=list)  # of them, those whose names are no shards'
    taken: int = 0  # shards
    aside: list[tuple[str, str]] = field(default_factory=list)  # shards that are refused for good, and why
    later: list[tuple[str, str]] = field(default_factory=list)  # shards that could not be had this time, and why
    new: int = 0  # crops that are used
    controls: int = 0  # of the new ones, to judge by
    again: int = 0  # crops that were there already
    unlike: int = 0  # crops of another passage under a name that was there already: two nodes or cameras of one name
    same: int = 0  # pictures that were there already, under another key
    near: int = 0  # crops nearly identical to another of their passage
    bad: int = 0  # no readable picture
    forgotten: int = 0  # crops that came once more after somebody had them forgotten
    expired: list[str] = field(default_factory=list)  # shards whose time was over, here
    deleted: int = 0  # shards whose time was over, on the store


@contextmanager
def own_folder(settings: SiteSettings) -> Iterator[Path]:
    """The trainer's folder for the site, for this process alone. `WorldError` while another one works there."""
    folder = settings.folder
    try:
        for place in (folder, folder / SHARDS, folder / COMING):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise WorldError(f"{folder}: another process works there; wait for it, or give each its own folder") from None
    finally:
        os.close(handle)  # and with it the lock


def ingest(
    settings: SiteSettings,
    store: ObjectStore,
    index: Index,
    now_s: float,
    show: Callable[[str], None],
    *,
    told: Forgotten = NOTHING,
) -> Ingested:
    """Take what is new but for what was forgotten, and let go what is too old, here and on the store. Raises
    `ObjectStoreError`, `WorldError`."""
    result, folder = Ingested(), settings.folder
    known = index.shards()
    sweep(folder, known)
    for stored in store.list(settings.prefix):
        result.listed += 1
        name = stored.name.rpartition("/")[2]
        try:
            ShardName.parse(name)
        except ShardError:
            result.foreign.append(stored.name)
            continue
        if known.get(name) == "gone":
            store.delete(stored.name)
            result.deleted += 1
        elif name not in known:
            take(_Coming(stored.name, folder, told), settings, store, index, now_s=now_s, result=result)
            show(f"{result.taken} shards, {result.new} crops")
    result.expired = index.expire(now_s - settings.keep.days * DAY_S)
    for name in result.expired:
        (folder / SHARDS / name).unlink(missing_ok=True)
    return result


def sweep(folder: Path, known: dict[str, str]) -> None:
    """Remove what a killed process left: shards on their way, shards that no row names, shards whose time was over."""
    shutil.rmtree(folder / COMING, ignore_errors=True)
    (folder / COMING).mkdir(mode=0o700, exist_ok=True)
    for path in (folder / SHARDS).iterdir():
        if known.get(path.name) != "taken":
            path.unlink()


@dataclass(frozen=True, slots=True)
class _Coming:
    """One shard on its way."""

    object_name: str
    folder: Path
    told: Forgotten

    @property
    def name(self) -> str:
        return self.object_name.rpartition("/")[2]

    @property
    def fetched(self) -> Path:
        return self.folder / COMING / self.name


def take(
    coming: _Coming, settings: SiteSettings, store: ObjectStore, index: Index, *, now_s: float, result: Ingested
) -> None:
    """One new shard."""
    wrong: list[str] = []
    for _ in range(2):
        try:
            digest = store.get(coming.object_name, coming.fetched, None, LARGEST_SHARD_BYTES)
        except ObjectMissingError:  # deleted since it was listed
            result.later.append((coming.name, "it is not there any more"))
            return
        except ObjectDamagedError as error:
            result.aside.append((coming.name, str(error)))
            index.set_aside(coming.name, str(error), now_s)
            return
        try:
            kept, gone = without(coming.fetched, coming.told.meets)
            rows, counts = ([], {}) if kept is None else _rows(kept, settings, index)
            break
        except ShardError as error:
            wrong.append(f"{digest} {str(error).replace(str(coming.fetched), coming.name)}")
            coming.fetched.unlink()
    else:
        reason = wrong[1].partition(" ")[2]
        if wrong[0] == wrong[1]:
            index.set_aside(coming.name, reason, now_s)
            result.aside.append((coming.name, reason))
        else:
            result.later.append((coming.name, f"it came differently each time: {reason}"))
        return
    if gone:
        exchange(store, coming.object_name, kept)
        index.drop(coming.name, now_s)
        result.forgotten += len(gone)
        coming.fetched.unlink()
    if kept is None:
        return
    if gone and kept.name in index.shards():  # it came before, without what was forgotten
        kept.unlink()
        return
    kept.replace(coming.folder / SHARDS / kept.name)
    sync_folder(coming.folder / SHARDS)
    index.take(kept.name, rows, now_s)
    result.taken += 1
    for name, count in counts.items():
        setattr(result, name, getattr(result, name) + count)


def _rows(path: Path, settings: SiteSettings, index: Index) -> tuple[list[Row], dict[str, int]]:
    """The crops of a shard that are not there yet, and how many of each kind. Raises `ShardError`."""
    about, total = [], 0
    node = ShardName.parse(path.name).node
    for crop in read_shard(path):
        record, total = crop.record, total + 1
        if record.site != settings.site or record.node != node:
            raise ShardError(
                f"shard {path.name}: a crop of {record.site}/{record.node}, expected {settings.site}/{node}"
            )
        about.append(_row(crop))
    alike = _one_passage_a_name(about, index)
    again = index.known([row.key for row in alike])
    rows = [row for row in alike if row.key not in again]
    seen = index.pictures([row.picture for row in rows])
    uses: dict[str, str] = {}
    for row in rows:
        uses[row.key] = "bad" if row.use == "bad" else "same" if row.picture in seen else "yes"
        seen.add(row.picture)
    if settings.keep.near_bits >= 0:
        _mark_near([row for row in rows if uses[row.key] == "yes"], uses, settings.keep.near_bits, index)
    rows = [row._replace(use=uses[row.key]) for row in rows]
    counts = {use: sum(row.use == use for row in rows) for use in ("same", "near", "bad")}
    used = [row for row in rows if row.use == "yes"]
    counts |= {"again": len(alike) - len(rows), "unlike": total - len(alike)}
    return rows, {"new": len(used), "controls": sum(row.control for row in used), **counts}


def _row(crop: Crop) -> Row:
    record, bits = crop.record, picture_hash(crop.jpeg)
    return Row(
        key=record.key,
        passage=record.passage,
        camera=record.camera,
        class_name=record.class_name,
        captured_s=record.captured_at_s,
        entered_s=record.entered_at_s,
        left_s=record.left_at_s,
        quality=record.quality,
        control=record.control,
        use="bad" if bits is None else "yes",
        picture=hashlib.sha256(crop.jpeg).digest()[:16],
        hash=(bits or 0).to_bytes(8, "big"),
        version=record.embedding_version if crop.embedding is not None else None,
        embedding=None if crop.embedding is None else crop.embedding.tobytes(),
    )


def _one_passage_a_name(rows: list[Row], index: Index) -> list[Row]:
    """Those that are of the passage that had their name first. One passage has one camera, class and times; joined with
    another, its track would be a must-link of two vehicles."""
    first = index.passages_named([row.passage for row in rows])
    return [row for row in rows if first.setdefault(row.passage, row.of_passage) == row.of_passage]


def _mark_near(rows: list[Row], uses: dict[str, str], bits: int, index: Index) -> None:
    """Of each passage the crops of the best quality stay, and those that came before."""
    passages: dict[str, list[Row]] = {}
    for row in rows:
        passages.setdefault(row.passage, []).append(row)
    for passage, own in passages.items():
        own.sort(key=lambda row: (-row.quality, row.key))
        before = index.hashes(passage)
        hashes = [int.from_bytes(one, "big") for one in (*before, *(row.hash for row in own))]
        first = first_of_each(hashes, bits)
        for number, row in enumerate(own, start=len(before)):
            if first[number] != number:
                uses[row.key] = "near"
