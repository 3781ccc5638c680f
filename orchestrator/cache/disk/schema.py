"""The tables of a disk cache's index, and the triggers that update its totals."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

SCHEMA_VERSION = 3
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE totals (
  id INTEGER PRIMARY KEY CHECK (id = 1), files INTEGER, bytes INTEGER, pinned INTEGER,
  small INTEGER, ghosts INTEGER);
INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, asset TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL,
  last_used REAL NOT NULL, lease_until REAL NOT NULL DEFAULT 0, pinned INTEGER NOT NULL DEFAULT 0,
  share TEXT NOT NULL DEFAULT '', queue INTEGER NOT NULL DEFAULT 1, turn REAL NOT NULL DEFAULT 0,
  uses INTEGER NOT NULL DEFAULT 0, UNIQUE (asset, name));
CREATE INDEX entries_by_turn ON entries (queue, turn) WHERE pinned = 0;
CREATE INDEX entries_by_share ON entries (share, last_used) WHERE pinned = 0 AND share <> '';
CREATE TABLE folders (
  path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, asset TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE INDEX folders_by_asset ON folders (asset);
CREATE TABLE pins (asset TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE ghosts (key INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, since REAL NOT NULL);
CREATE INDEX ghosts_by_age ON ghosts (since);
CREATE TABLE shares (name TEXT PRIMARY KEY, files INTEGER, bytes INTEGER) WITHOUT ROWID;
CREATE TABLE reservations (
  holder TEXT PRIMARY KEY, pid INTEGER, bytes INTEGER NOT NULL, since REAL) WITHOUT ROWID;
CREATE TRIGGER entry_in AFTER INSERT ON entries BEGIN
  UPDATE totals SET files = files + 1, bytes = bytes + new.bytes,
    pinned = pinned + new.pinned * new.bytes,
    small = small + (new.queue + new.pinned = 0) * new.bytes; END;
CREATE TRIGGER entry_out AFTER DELETE ON entries BEGIN
  UPDATE totals SET files = files - 1, bytes = bytes - old.bytes,
    pinned = pinned - old.pinned * old.bytes,
    small = small - (old.queue + old.pinned = 0) * old.bytes; END;
CREATE TRIGGER entry_changed AFTER UPDATE OF bytes, pinned, queue ON entries
WHEN new.bytes <> old.bytes OR new.pinned <> old.pinned OR new.queue <> old.queue BEGIN
  UPDATE totals SET bytes = bytes + new.bytes - old.bytes,
    pinned = pinned + new.pinned * new.bytes - old.pinned * old.bytes,
    small = small + (new.queue + new.pinned = 0) * new.bytes
      - (old.queue + old.pinned = 0) * old.bytes; END;
CREATE TRIGGER ghost_in AFTER INSERT ON ghosts BEGIN
  UPDATE totals SET ghosts = ghosts + new.bytes; END;
CREATE TRIGGER ghost_out AFTER DELETE ON ghosts BEGIN
  UPDATE totals SET ghosts = ghosts - old.bytes; END;
CREATE TRIGGER share_in AFTER INSERT ON entries WHEN new.share <> '' BEGIN
  INSERT INTO shares VALUES (new.share, 1, new.bytes) ON CONFLICT (name) DO UPDATE SET
    files = files + 1, bytes = bytes + new.bytes; END;
CREATE TRIGGER share_out AFTER DELETE ON entries WHEN old.share <> '' BEGIN
  UPDATE shares SET files = files - 1, bytes = bytes - old.bytes WHERE name = old.share; END;
CREATE TRIGGER share_changed AFTER UPDATE OF bytes ON entries WHEN new.share <> '' BEGIN
  UPDATE shares SET bytes = bytes + new.bytes - old.bytes WHERE name = new.share; END;
CREATE TRIGGER folder_in AFTER INSERT ON folders BEGIN
  UPDATE totals SET bytes = bytes + new.bytes; END;
CREATE TRIGGER folder_out AFTER DELETE ON folders BEGIN
  UPDATE totals SET bytes = bytes - old.bytes; END;
CREATE TRIGGER folder_changed AFTER UPDATE OF bytes ON folders BEGIN
  UPDATE totals SET bytes = bytes + new.bytes - old.bytes; END;
"""


def statements() -> Iterator[str]:
    """The statements that create an index in an empty file."""
    statement = ""
    for line in _SCHEMA.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
