"""The pins of a cache, by asset. The files of a pinned asset are never evicted. Each row has a
flag, so eviction skips pinned files at no cost.

A pin is recorded with every write and use of a pinned product, and when the asset is pinned. A new
index learns the pins in the same ways. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping

from orchestrator.cache.disk.file_names import asset_hash
from orchestrator.cache.disk.index import Index, transaction

_PAGE = 500


class Pins:
    """The pins of one cache; also finds assets by the prefix of their id."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def pin(self, texts: Iterable[str]) -> None:
        """Pin all present and future files of these assets (text ids)."""
        rows = [(asset_hash(text), text) for text in texts]
        self._index.run(lambda db: _pin(db, rows))

    def unpin(self, texts: Iterable[str]) -> None:
        """Remove the pins of these assets."""
        hashes = [asset_hash(text) for text in texts]
        self._index.run(lambda db: _unpin(db, hashes))

    def set_all(self, texts: Iterable[str], keep: Callable[[str], bool]) -> int:
        """Pin these assets, and remove all other pins except those for which `keep` is true;
        returns the number of changes.
        """
        known = self._index.run(_known)
        rows = {asset_hash(text): text for text in texts}
        new = [(asset, text) for asset, text in rows.items() if asset not in known]
        old = [asset for asset, text in known.items() if asset not in rows and not keep(text)]
        if new:
            self._index.run(lambda db: _pin(db, new))
        if old:
            self._index.run(lambda db: _unpin(db, old))
        return len(new) + len(old)

    def assets_with(self, prefix: str) -> list[str]:
        """The hashes of the assets whose id is known and begins with `prefix`; at most 500, so call
        it again until there are none.
        """
        return self._index.run(lambda db: _with(db, prefix))

    def has_unnamed(self) -> bool:
        """True if there are files of assets whose ids are unknown (after a rebuild)."""
        return self._index.run(_has_unnamed)


def _known(db: sqlite3.Connection) -> Mapping[str, str]:
    return dict(db.execute("SELECT asset, text FROM pins").fetchall())


def _pin(db: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
    with transaction(db):
        db.executemany("INSERT OR IGNORE INTO pins VALUES (?, ?)", rows)
        db.executemany(
            "UPDATE entries SET pinned = 1 WHERE asset = ? AND pinned = 0",
            [(asset,) for asset, _ in rows],
        )


def _unpin(db: sqlite3.Connection, hashes: list[str]) -> None:
    rows = [(asset,) for asset in hashes]
    with transaction(db):
        db.executemany("DELETE FROM pins WHERE asset = ?", rows)
        db.executemany("UPDATE entries SET pinned = 0 WHERE asset = ? AND pinned = 1", rows)


def _with(db: sqlite3.Connection, prefix: str) -> list[str]:
    # SQLite compares bytes: all ids with this prefix are between these two values.
    after = prefix + chr(0x10FFFF)
    rows = db.execute(
        "SELECT path FROM folders WHERE asset >= ? AND asset < ? AND asset <> '' LIMIT ?",
        (prefix, after, _PAGE),
    )
    return [str(row[0]).partition("/")[2] for row in rows]


def _has_unnamed(db: sqlite3.Connection) -> bool:
    # Folders of assets are those with a slash: two digits, then 30; `.temp`, `` and `aa` are not.
    row = db.execute(
        "SELECT 1 FROM folders WHERE asset = '' AND path LIKE '__/%' LIMIT 1"
    ).fetchone()
    return row is not None
