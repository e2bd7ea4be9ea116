"""The tables of the store: made, brought up to this version, and the count of boots in them."""

from __future__ import annotations

import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from edge_app.store.shedding import Write
from edge_app.store.upgrade import upgraded

APPLICATION_ID = 0x43524F53  # "CROS", in the file's header
VERSION = 2

SCHEMA = """
CREATE TABLE parts (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    queued_at_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    payload BLOB,               -- NULL once it was sent
    checksum INTEGER            -- of all that is sent; NULL in rows of version 1
);
CREATE TABLE aside (            -- what nobody can read and no broker takes, for somebody who wants to look
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s REAL NOT NULL,         -- wall time at which it came here
    key TEXT NOT NULL,          -- of the part, or the topic of the message
    reason TEXT NOT NULL,
    value BLOB
);
CREATE INDEX outbox_pending ON outbox(id) WHERE payload IS NOT NULL;
CREATE INDEX outbox_sent ON outbox(id) WHERE payload IS NULL;
"""
STATEMENTS = [statement.strip() for statement in SCHEMA.split(";\n") if statement.strip()]
(ASIDE,) = [statement for statement in STATEMENTS if statement.startswith("CREATE TABLE aside")]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[Write]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise


def make(write: Write, lineage: str) -> None:
    for statement in STATEMENTS:
        write(statement)
    write(f"PRAGMA application_id = {APPLICATION_ID}")
    write(f"PRAGMA user_version = {VERSION}")
    write("INSERT INTO meta VALUES ('lineage', ?), ('boot', '0')", (lineage,))


def upgrade(write: Write) -> None:
    """Version 1 knew neither checksums nor what is set aside, and its parts named no format."""
    write("ALTER TABLE outbox ADD COLUMN checksum INTEGER")
    write(ASIDE)
    write(f"PRAGMA user_version = {VERSION}")
    before = dict(write("SELECT key, value FROM parts"))
    for key, value in upgraded(before).items():
        if value is None:
            write("DELETE FROM parts WHERE key = ?", (key,))
        else:
            write("INSERT OR REPLACE INTO parts VALUES (?, ?)", (key, value))


def join_asides(write: Write) -> None:
    """Version 2 began with two tables for what is put aside, by who could not use it."""
    if not write("SELECT count(*) FROM sqlite_master WHERE name = 'unreadable'").fetchone()[0]:
        return
    write("ALTER TABLE aside RENAME TO refused")
    write(ASIDE)
    into = "INSERT INTO aside (at_s, key, reason, value) SELECT"
    write(f"{into} strftime('%s', 'now'), topic, reason, payload FROM refused ORDER BY id")
    write(f"{into} at_s, key, reason, value FROM unreadable ORDER BY id")
    write("DROP TABLE refused")
    write("DROP TABLE unreadable")


def next_boot(write: Write) -> str:
    """Boot ids are in the names of tracks and identities, which are never used again: where the count cannot be
    trusted, a new lineage begins."""
    meta = dict(write("SELECT key, value FROM meta"))
    lineage, boot = str(meta.get("lineage")), str(meta.get("boot"))
    expected = meta.get("checksum", _meta_checksum(lineage, boot))  # version 1 had none
    if not re.fullmatch(r"[\w.-]{0,40}", lineage) or not re.fullmatch(r"\d{1,15}", boot) or "lineage" not in meta \
            or expected != _meta_checksum(lineage, boot):  # fmt: skip
        lineage, boot = secrets.token_hex(3), "0"
    boot = str(int(boot) + 1)
    values = (lineage, boot, _meta_checksum(lineage, boot))
    write("INSERT OR REPLACE INTO meta VALUES ('lineage', ?), ('boot', ?), ('checksum', ?)", values)
    return f"{lineage}.{boot}" if lineage else boot


def _meta_checksum(lineage: str, boot: str) -> str:
    return f"{zlib.crc32(f'{lineage} {boot}'.encode()):08x}"
