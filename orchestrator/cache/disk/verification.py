"""Compares the index of a cache with its files, for `cache verify`. Walks the whole tree."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from functools import partial

from orchestrator.cache.disk.entries import Entries
from orchestrator.cache.disk.eviction import Evictor
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.index import Index, transaction
from orchestrator.cache.disk.index_rows import enter_file, match_file


@dataclass(frozen=True, slots=True)
class Verification:
    """Differences between the index and the files."""

    files: int = 0
    bytes: int = 0
    missing: int = 0
    """Rows without a file."""
    unknown: int = 0
    """Files without a row."""
    resized: int = 0
    """Files of another size than in their row."""
    empty: int = 0
    """Files of no bytes, which are never served."""

    @property
    def sound(self) -> bool:
        """True if there is no difference."""
        return not (self.missing or self.unknown or self.resized or self.empty)

    def __add__(self, other: Verification) -> Verification:
        """The sums of all figures."""
        names = [field.name for field in fields(self)]
        return Verification(*(getattr(self, name) + getattr(other, name) for name in names))


class Verifier:
    """Compares one cache's index with its files. One thread only."""

    def __init__(self, index: Index, evictor: Evictor, entries: Entries) -> None:
        self._index = index
        self._tree = evictor.tree
        self._order = evictor.limits.order
        self._entries = entries

    def assets(self) -> list[str]:
        """The hashes of all assets with a file or a row."""
        return sorted({*self._tree.assets(), *self._index.run(_assets_of_index)})

    def verify(self, *, repair: bool) -> Verification:
        """Compare all rows with all files, one asset at a time; with `repair`, correct the rows and
        remove empty files.
        """
        total = Verification()
        for asset in self.assets():
            compare = partial(self._compare, asset=asset, repair=repair)
            total += self._index.run(compare)
            if repair and (empty := self._empty_files(asset)):
                self._entries.remove_damaged(empty)
        return total

    def _empty_files(self, asset: str) -> list[Place]:
        return [place for place in self._tree.names(asset) if self._tree.size(place) == 0]

    def _compare(self, db: sqlite3.Connection, asset: str, repair: bool) -> Verification:
        rows = dict(
            db.execute("SELECT name, bytes FROM entries WHERE asset = ?", (asset,)).fetchall()
        )
        sizes = {place.name: self._tree.size(place) for place in self._tree.names(asset)}
        files = {name: size for name, size in sizes.items() if size is not None}
        if repair:
            with transaction(db):
                for name in {*rows, *files}:
                    match_file(db, self._tree, self._order, Place(asset, name), 0.0)
                    if name in files and name in rows:
                        enter_file(db, self._order, Place(asset, name), files[name], 0.0)
        return Verification(
            files=len(files),
            bytes=sum(files.values()),
            missing=len(rows.keys() - files.keys()),
            unknown=len(files.keys() - rows.keys()),
            resized=sum(files[name] != rows[name] for name in files.keys() & rows.keys()),
            empty=sum(size == 0 for size in files.values()),
        )


def _assets_of_index(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT DISTINCT asset FROM entries")]
