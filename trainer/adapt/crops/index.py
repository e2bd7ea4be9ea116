"""What the trainer has of a site: every shard that came, every crop once. One SQLite file, one transaction a shard.

A shard's file is whole in its place before the transaction that names it; a file that no row names is what a killed
process left, and goes. Names of shards stay when their crops are gone, so that none is ever taken twice.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.adapt.crops.choice import Known
from trainer.errors import DataError, WorldError

VERSION = 1
AT_ONCE = 500  # values in one query
_TABLES = """
CREATE TABLE shards (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
  crops INTEGER NOT NULL DEFAULT 0, came_s REAL NOT NULL, first_s REAL
) STRICT;
CREATE TABLE crops (
  id INTEGER PRIMARY KEY AUTOINCREMENT, shard INTEGER NOT NULL REFERENCES shards(id), key TEXT NOT NULL UNIQUE,
  passage TEXT NOT NULL, camera TEXT NOT NULL, class TEXT NOT NULL, captured_s REAL NOT NULL, entered_s REAL NOT NULL,
  left_s REAL NOT NULL, quality REAL NOT NULL, control INTEGER NOT NULL, use TEXT NOT NULL, picture BLOB NOT NULL,
  hash BLOB NOT NULL, version TEXT, embedding BLOB
) STRICT;
CREATE INDEX crops_of_passage ON crops(passage);
CREATE INDEX crops_of_picture ON crops(picture);
CREATE INDEX crops_of_shard ON crops(shard);
CREATE TABLE reservoir (crop INTEGER PRIMARY KEY REFERENCES crops(id) ON DELETE CASCADE) STRICT;
"""


OfPassage = tuple[str, str, float, float]  # camera, class, entered and left: one for all crops of a passage


class Row(NamedTuple):
    """One crop, as it is inserted."""

    key: str
    passage: str
    camera: str
    class_name: str
    captured_s: float
    entered_s: float
    left_s: float
    quality: float
    control: bool
    use: str  # yes | near, another one shows the same | same, another one has these bytes | bad, no picture
    picture: bytes  # 16 bytes of its JPEG's SHA-256
    hash: bytes  # (8,) of `near.picture_hash`
    version: str | None  # of the embedding
    embedding: bytes | None  # (D,) float16

    @property
    def of_passage(self) -> OfPassage:
        return self.camera, self.class_name, self.entered_s, self.left_s


class About(NamedTuple):
    """One crop, as it is read."""

    id: int
    shard: str
    key: str
    passage: str
    camera: str
    class_name: str
    captured_s: float
    entered_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is, for people."""

    shards: int
    aside: int
    crops: int
    uses: dict[str, int]
    controls: int
    passages: int
    cameras: dict[str, int]
    hours: int
    first_s: float | None
    last_s: float | None


class Index:
    """The file. One process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self.base = sqlite3.connect(path, isolation_level=None, timeout=5)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
                self.base.execute(f"PRAGMA {pragma}")
            (version,) = self.base.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self.base.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT")
            elif version != VERSION:
                raise DataError(f"{path} is an index of version {version}, expected {VERSION}: update, or set it aside")

    def close(self) -> None:
        self.base.close()

    def shards(self) -> dict[str, str]:
        """Name → state of every shard that ever came: taken, aside or gone."""
        return dict(self._rows("SELECT name, state FROM shards"))

    def taken(self) -> list[str]:
        """Names of the shards whose crops are there."""
        return [name for name, state in self.shards().items() if state == "taken"]

    def known(self, keys: Sequence[str]) -> set[str]:
        """The keys of these that are there."""
        return set(self._which("key", keys))

    def numbers(self, keys: Sequence[str]) -> list[int]:
        """Of those of these keys that are there, in no order."""
        return list(self._which("key", keys, "id"))

    def pictures(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those of these pictures that are there."""
        return set(self._which("picture", digests))

    def hashes(self, passage: str) -> list[bytes]:
        """Of the crops of a passage that are used."""
        return [one for (one,) in self._rows("SELECT hash FROM crops WHERE passage = ? AND use = 'yes'", [passage])]

    def passages_named(self, names: Sequence[str]) -> dict[str, OfPassage]:
        """Those of these passages that are there."""
        columns = "passage, camera, class, entered_s, left_s"
        return {name: (camera, kind, *times) for name, camera, kind, *times in self._where("passage", names, columns)}

    def take(self, name: str, rows: Iterable[Row], now_s: float) -> None:
        """A shard and its new crops, in one transaction."""
        rows = list(rows)
        first_s = min([row.captured_s for row in rows], default=None)
        columns = "key, passage, camera, class, captured_s, entered_s, left_s, quality, control, use, picture, hash, "
        with self.transaction() as base:
            shard = base.execute(
                "INSERT INTO shards (name, state, crops, came_s, first_s) VALUES (?, 'taken', ?, ?, ?)",
                (name, len(rows), now_s, first_s),
            ).lastrowid
            base.executemany(
                f"INSERT INTO crops (shard, {columns} version, embedding) VALUES ({','.join('?' * 15)})",
                ((shard, *row) for row in rows),
            )

    def set_aside(self, name: str, reason: str, now_s: float) -> None:
        """A shard that is refused each time is not tried again."""
        with self.transaction() as base:
            base.execute(
                "INSERT INTO shards (name, state, reason, came_s) VALUES (?, 'aside', ?, ?)", (name, reason, now_s)
            )

    def drop(self, name: str, now_s: float) -> None:
        """A shard that is never taken, and deleted wherever it is found."""
        with self.transaction() as base:
            base.execute("INSERT OR IGNORE INTO shards (name, state, came_s) VALUES (?, 'gone', ?)", (name, now_s))

    def settle(self) -> None:
        """Nothing that was deleted stays in the log beside the file."""
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def expire(self, before_s: float) -> list[str]:
        """Forget the crops of every shard that came, or whose first crop was taken, before that; their names."""
        with self.transaction() as base:
            old = base.execute(
                "SELECT id, name FROM shards WHERE state != 'gone' AND min(came_s, coalesce(first_s, came_s)) < ?",
                (before_s,),
            ).fetchall()
            for shard, _ in old:
                base.execute("DELETE FROM crops WHERE shard = ?", (shard,))
                base.execute("UPDATE shards SET state = 'gone' WHERE id = ?", (shard,))
        return [name for _, name in old]

    def passages(self, shards: Sequence[str]) -> int:
        """How many passages these shards brought that may be trained on."""
        names = set(shards)
        query = "SELECT DISTINCT s.name, c.passage FROM crops c JOIN shards s ON s.id = c.shard WHERE c.use = 'yes'"
        return len({passage for name, passage in self._rows(f"{query} AND c.control = 0") if name in names})

    def newest(self) -> int:
        """The number of the crop that came last; 0 where none did. Numbers only grow."""
        ((number,),) = self._rows("SELECT coalesce(max(id), 0) FROM crops")
        return int(number)

    def usable(self, until: int) -> tuple[Known, list[str]]:
        """The crops up to this number that show something of their own, and the names of their passages."""
        columns = "id, captured_s, entered_s, left_s, control, id IN (SELECT crop FROM reservoir), passage, camera"
        query = f"SELECT {columns} FROM crops WHERE use = 'yes' AND id <= ? ORDER BY id"
        numbers, times, marks = array("q"), array("d"), array("b")  # no million Python objects at once
        passages: dict[str, int] = {}
        cameras: dict[str, int] = {}
        with self._told(), closing(self.base.execute(query, [until])) as cursor:
            for number, captured_s, entered_s, left_s, control, kept, passage, camera in cursor:
                place = passages.setdefault(passage, len(passages))
                numbers.extend((number, place, cameras.setdefault(camera, len(cameras))))
                times.extend((captured_s, entered_s, left_s))
                marks.extend((control, kept))
        ids, places, seen_by = np.array(numbers, np.int64).reshape(-1, 3).T
        captured, entered, left = np.array(times, np.float64).reshape(-1, 3).T
        controls, reservoir = np.array(marks, np.bool_).reshape(-1, 2).T
        known = Known(ids, places, seen_by, captured, entered, left, control=controls, reservoir=reservoir)
        return known, list(passages)

    def about(self, ids: NDArray[np.int64]) -> list[About]:
        """What is said of these crops, in order of their shards."""
        wanted = set(ids.tolist())
        query = (
            "SELECT c.id, s.name, c.key, c.passage, c.camera, c.class, c.captured_s, c.entered_s, c.left_s"
            " FROM crops c JOIN shards s ON s.id = c.shard ORDER BY s.id, c.id"
        )
        return [About(*row) for row in self._rows(query) if row[0] in wanted]

    def keep_reservoir(self, ids: NDArray[np.int64]) -> None:
        """These crops, in place of those of before, stay in training when the window leaves them."""
        with self.transaction() as base:
            base.execute("DELETE FROM reservoir")
            base.executemany(
                "INSERT INTO reservoir SELECT id FROM crops WHERE id = ?", ((number,) for number in ids.tolist())
            )

    def facts(self) -> Facts:
        counts = dict(self._rows("SELECT state, count(*) FROM shards GROUP BY state"))
        ((crops, controls, passages, hours, first_s, last_s),) = self._rows(
            "SELECT count(*), coalesce(sum(control), 0), count(DISTINCT passage),"
            " count(DISTINCT CAST(captured_s / 3600 AS INTEGER)), min(captured_s), max(captured_s) FROM crops"
        )
        return Facts(
            counts.get("taken", 0),
            counts.get("aside", 0),
            crops,
            dict(self._rows("SELECT use, count(*) FROM crops GROUP BY use ORDER BY use")),
            controls,
            passages,
            dict(self._rows("SELECT camera, count(*) FROM crops GROUP BY camera ORDER BY camera")),
            hours,
            first_s,
            last_s,
        )

    def aside(self) -> list[tuple[str, str]]:
        """Names and reasons of the shards that were refused."""
        return self._rows("SELECT name, reason FROM shards WHERE state = 'aside' ORDER BY id")

    def _which(self, column: str, values: Sequence[Any], wanted: str = "") -> Iterator[Any]:
        return (value for (value,) in self._where(column, values, wanted or column))

    def _where(self, column: str, values: Sequence[Any], wanted: str) -> Iterator[tuple[Any, ...]]:
        for first in range(0, len(values), AT_ONCE):
            some = values[first : first + AT_ONCE]
            marks = ",".join("?" * len(some))
            yield from self._rows(f"SELECT {wanted} FROM crops WHERE {column} IN ({marks})", some)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._told(), closing(self.base.execute(query, values)) as cursor:
            return cursor.fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done within, or nothing."""
        with self._told():
            self.base.execute("BEGIN IMMEDIATE")
            try:
                yield self.base
            except BaseException:
                self.base.execute("ROLLBACK")
                raise
            self.base.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The library's errors as a `WorldError`."""
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):  # a bug of ours, not of the disk
                raise
            raise WorldError(
                f"{self.path}: {error}; is the disk full, read-only or damaged? The index can be made anew from the"
                " shards: set the folder aside and ingest again"
            ) from error
