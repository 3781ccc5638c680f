"""What is never evicted for room: the pins the index knows, by asset, so that leaving a pinned file
out costs eviction nothing.

A pin is told with every write and use of a pinned product, and by whoever hears that an asset was
pinned; an index begun anew learns it again the same ways. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping

from orchestrator.cache.disk.file_names import asset_hash
from orchestrator.cache.disk.index import Index, transaction

_PAGE = 500


class Pins:
    """The pins of one cache; also finds assets by the beginning of their id."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def pin(self, texts: Iterable[str]) -> None:
        """Pin everything there is and will be of these assets (text ids)."""
        rows = [(asset_hash(text), text) for text in texts]
        self._index.run(lambda db: _pin(db, rows))

    def unpin(self, texts: Iterable[str]) -> None:
        """Let go of these assets again."""
        hashes = [asset_hash(text) for text in texts]
        self._index.run(lambda db: _unpin(db, hashes))

    def settle(self, wanted: Iterable[str], keep: Callable[[str], bool]) -> int:
        """Pin the `wanted`, and let go of all others that `keep` does not speak for; how many
        changed.
        """
        known = self._index.run(_known)
        rows = {asset_hash(text): text for text in wanted}
        new = [(asset, text) for asset, text in rows.items() if asset not in known]
        old = [asset for asset, text in known.items() if asset not in rows and not keep(text)]
        if new:
            self._index.run(lambda db: _pin(db, new))
        if old:
            self._index.run(lambda db: _unpin(db, old))
        return len(new) + len(old)

    def assets_with(self, prefix: str) -> list[str]:
        """The hashes of the assets whose id, where it is known, begins with `prefix`; a page of
        them, so ask until there are none.
        """
        return self._index.run(lambda db: _with(db, prefix))

    def has_unnamed(self) -> bool:
        """True if there are files of assets whose ids are not known (an index begun anew)."""
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
    # Compared as bytes, which is the order of the index: what begins so lies between these two.
    after = prefix + chr(0x10FFFF)
    rows = db.execute(
        "SELECT path FROM folders WHERE asset >= ? AND asset < ? AND asset <> '' LIMIT ?",
        (prefix, after, _PAGE),
    )
    return [str(row[0]).partition("/")[2] for row in rows]


def _has_unnamed(db: sqlite3.Connection) -> bool:
    # Folders of assets are those with a slash: two digits, then 30; `.temp`, `` and `aa` are not.
    found = db.execute(
        "SELECT 1 FROM folders WHERE asset = '' AND path LIKE '__/%' LIMIT 1"
    ).fetchone()
    return found is not None
