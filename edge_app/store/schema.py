"""The tables of the store's file."""

from __future__ import annotations

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
    payload BLOB                -- NULL once it was sent
);
CREATE INDEX outbox_pending ON outbox(id) WHERE payload IS NOT NULL;
CREATE INDEX outbox_sent ON outbox(id) WHERE payload IS NULL;
"""

# Made at any start: files of older releases have none.
ASIDE = """
CREATE TABLE IF NOT EXISTS aside (
    id INTEGER PRIMARY KEY,     -- as in the outbox
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    queued_at_s REAL NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL
)
"""
