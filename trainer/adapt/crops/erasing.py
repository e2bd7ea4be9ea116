"""How crops leave the trainer: its shards and index, the rounds that show or used them, and the shards on the store.

    look → rounds → for each shard: one without them → to the store → the old one off the store → index → file

Ends this anywhere, it is begun again and comes to the same: every step is done or can be done anew, and a request is
noted as done (`own/forgotten.json`) after the last. A shard that lost crops has a new name, since a name says its
digest; its old name stays known as `gone`, so that it is deleted, not taken, when it comes once more.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from edge_app.contract.crop import CropRecord
from edge_app.contract.errors import ObjectMissingError, ShardError
from edge_app.contract.objects import ObjectStore
from edge_app.contract.shard import read_shard
from trainer.adapt import rounds
from trainer.adapt.crops.index import Index
from trainer.adapt.crops.ingest import SHARDS
from trainer.adapt.rounds import BUNDLE
from trainer.adapt.settings import SiteSettings
from trainer.adapt.told.forgotten import Forgotten, Request, exchange, without
from trainer.errors import DataError

DONE = "forgotten.json"


@dataclass(slots=True)
class Erased:
    """What left, or would leave."""

    crops: int = 0
    passages: dict[str, float] = field(default_factory=dict)  # and when they entered
    shards: dict[str, Sequence[str]] = field(default_factory=dict)  # name → keys of its crops that go
    lost: list[str] = field(default_factory=list)  # shards that the disk has changed and the store has no more
    on_the_store: int = 0  # of the shards
    rounds: list[int] = field(default_factory=list)  # that showed or used them
    begun_anew: bool = False  # the round under way
    ids: set[int] = field(default_factory=set)  # of the crops in the index


@dataclass(frozen=True, slots=True)
class Place:
    """Where crops are."""

    settings: SiteSettings
    store: ObjectStore
    index: Index

    @property
    def own(self) -> Path:
        return self.settings.folder


def pending(own: Path, told: Forgotten) -> list[Request]:
    """The requests that were not fulfilled here yet."""
    done = _done(own)
    return [one for one in told.requests if one.id not in done]


def look(place: Place, requests: Sequence[Request]) -> Erased:
    """What these meet; nothing is changed. Reads every shard: only there stands all that is known of a crop."""
    asked, found, keys = Forgotten(requests=tuple(requests)), Erased(), set[str]()
    for name in place.index.taken():
        records = records_of(place, name)
        if records is None:
            found.lost.append(name)
        elif met := [record for record in records if asked.meets(record)]:
            found.shards[name] = [record.key for record in met]
            found.passages.update((record.passage, record.entered_at_s) for record in met)
            keys.update(found.shards[name])
    found.crops = len(keys)
    found.ids = set(place.index.numbers(list(keys)))
    for one in rounds.every(place.own):
        uses = _uses(rounds.folder_of(place.own, one.number), found.ids)
        found.rounds += [one.number] * uses
        found.begun_anew |= not one.decision and (uses or "choose" not in one.done)
    return found


def records_of(place: Place, name: str) -> list[CropRecord] | None:
    """Of a shard's crops; from the store where the disk has changed it, None where that has it no more."""
    for anew in (False, True):
        if not anew or _fetched_anew(place, name):
            with suppress(ShardError):
                return [crop.record for crop in read_shard(place.own / SHARDS / name)]
    return None


def erase(place: Place, requests: Sequence[Request], still: Callable[[], None] = lambda: None) -> Erased:
    """Fulfil these. `still` is called before each shard and raises when this process may not go on. Raises `WorldError`
    and the errors of the store."""
    found = look(place, requests)
    for one in rounds.every(place.own):
        _leave_round(place.own, one, found.ids)
    asked = Forgotten(requests=tuple(requests))
    objects = {stored.name.rpartition("/")[2]: stored.name for stored in place.store.list(place.settings.prefix)}
    for name in found.shards:
        still()
        found.on_the_store += _leave_shard(place, name, objects.get(name), asked.meets)
    for name in found.lost:
        _swap(place.index, name, None, [])
        (place.own / SHARDS / name).unlink(missing_ok=True)
    place.index.settle()
    _note(place.own, [one.id for one in requests])
    return found


def _leave_shard(place: Place, name: str, stored: str | None, unwanted: Callable[[CropRecord], bool]) -> bool:
    """Whether it was on the store."""
    path = place.own / SHARDS / name
    new, keys = without(path, unwanted)
    if stored is not None:
        exchange(place.store, stored, new)
    _swap(place.index, name, None if new is None else new.name, keys)
    path.unlink()
    return stored is not None


def _swap(index: Index, old: str, new: str | None, keys: Sequence[str]) -> None:
    """The old shard is gone, these crops with it, and its others are the new one's."""
    with index.transaction() as base:
        base.executemany("DELETE FROM crops WHERE key = ?", ((key,) for key in keys))
        ((shard, came_s),) = base.execute("SELECT id, came_s FROM shards WHERE name = ?", [old]).fetchall()
        if new is None:
            base.execute("DELETE FROM crops WHERE shard = ?", [shard])
        else:
            values = "SELECT ?, 'taken', count(*), ?, min(captured_s) FROM crops WHERE shard = ?"
            base.execute(
                f"INSERT OR IGNORE INTO shards (name, state, crops, came_s, first_s) {values}", [new, came_s, shard]
            )
            base.execute(
                "UPDATE crops SET shard = (SELECT id FROM shards WHERE name = ?) WHERE shard = ?", [new, shard]
            )
        base.execute("UPDATE shards SET state = 'gone' WHERE id = ?", [shard])


def _fetched_anew(place: Place, name: str) -> bool:
    """A shard that the disk has changed, from the store; whether it is there."""
    for stored in place.store.list(place.settings.prefix):
        if stored.name.rpartition("/")[2] == name:
            try:
                place.store.get(stored.name, place.own / SHARDS / name)
                return True
            except ObjectMissingError:
                return False
    return False


def _leave_round(own: Path, one: rounds.Round, ids: set[int]) -> None:
    """What a round shows of these crops goes, with all that was made of them but model and bundle; one that is under
    way begins anew, and so does one that had begun to lay out crops nobody knows which."""
    folder = rounds.folder_of(own, one.number)
    if not one.decision and one.number == rounds.current_round(own):
        rounds.close(own, one, "accepted")  # it was broken off between its model and its last note
    if not one.decision and (_uses(folder, ids) or "choose" not in one.done):
        shutil.rmtree(folder)
    elif one.decision and _uses(folder, ids):
        one.forgotten = True
        rounds.save(own, one)
        rounds.strip(folder, BUNDLE, *(path.name for path in _tables(folder)))
        for path in _tables(folder):
            kept = [row for number, row in enumerate(_rows(path)) if not number or _id(row) not in ids]
            rounds.put(path, partial(_write, kept))


def _uses(folder: Path, ids: set[int]) -> bool:
    """Do the tables of a round name one of these crops?"""
    return any(_id(row) in ids for path in _tables(folder) for row in _rows(path)[1:])


def _tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _write(rows: Sequence[Sequence[str]], file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    csv.writer(text).writerows(rows)
    text.detach()


def _id(row: Sequence[str]) -> int:
    """The first column: the crop's number, or its picture's path."""
    return int(Path(row[0]).stem)


def _done(own: Path) -> list[str]:
    try:
        return list(json.loads((own / DONE).read_text(encoding="utf-8"))["done"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{own / DONE} cannot be read: {error}; delete it, and all requests are fulfilled again"
        ) from None


def _note(own: Path, ids: Sequence[str]) -> None:
    rounds.write_json(own / DONE, {"done": [*_done(own), *ids]})
