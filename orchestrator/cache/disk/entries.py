"""The rows of the index, kept in step with the files: uses, leases, drops, missing files.

Every difference is resolved in favour of the disk: the row of a missing file is deleted, a file
without a row is entered. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from functools import partial

from orchestrator.cache.disk.eviction import Evictor, Reason
from orchestrator.cache.disk.eviction_policies import reorder_index
from orchestrator.cache.disk.file_names import TEMP_FOLDER, Place, place_of_path, version_of
from orchestrator.cache.disk.index import Index, read_totals, transaction
from orchestrator.cache.disk.index_rows import (
    delete_rows,
    enter_folder,
    has_row,
    match_file,
    remove_empty_folder,
)

_LATE_S = 60.0
"""How much later than now the turn of an entry may be, by the differences between processes."""
_BATCH = 500


class Entries:
    """The rows of one cache's files."""

    def __init__(self, index: Index, evictor: Evictor) -> None:
        self._index = index
        self._evictor = evictor
        self._tree = evictor.tree
        self._order = evictor.limits.order
        self._now = evictor.now

    def open(self) -> None:
        """Count the cache's own folders and set the eviction order. Raises NoRoom when the index
        cannot be used.
        """
        self._index.run(self._open)

    def record_uses(self, uses: Mapping[str, float]) -> None:
        """Record when files were last used; `uses` maps a path in the cache to a time."""
        times = list(uses.items())
        for start in range(0, len(times), _BATCH):
            self._index.run(partial(self._record_uses, uses=times[start : start + _BATCH]))

    def delete_missing(self, paths: Iterable[str]) -> int:
        """Delete the rows of files that were deleted externally, among `paths`, which requests
        missed; returns their number.
        """
        return self._index.run(lambda db: self._delete_missing(db, paths))

    def lease(self, leases: Mapping[str, float]) -> set[str]:
        """Protect files from eviction until the given times; returns the paths that exist."""
        return self._index.run(lambda db: self._lease(db, leases))

    def cap_times(self, now: float, lease_s: float) -> None:
        """Correct times that are later than `now` allows, after the clock was set back: else recent
        files would be evicted before old ones, and leases would last as long as the step.
        """
        self._index.run(lambda db: _cap_times(db, now, now + lease_s))

    def drop(self, asset: str, below: int | None, reason: Reason) -> int:
        """Remove an asset's files (`asset` is its hash), or those of versions before `below`;
        returns the files removed.
        """
        total = 0
        while removed := self._index.run(lambda db: self._drop(db, asset, below, reason)):
            total += removed
        return total

    def remove_damaged(self, places: list[Place]) -> None:
        """Remove files that cannot be trusted, and their rows."""
        self._index.run(lambda db: self._remove(db, places, "damaged"))

    def _open(self, db: sqlite3.Connection) -> None:
        reorder_index(db, self._order)
        if _has_later_turn(db, self._now() + _LATE_S):
            _cap_times(db, self._now(), self._now() + _LATE_S)
        with transaction(db):
            for folder in ("", TEMP_FOLDER):
                enter_folder(db, self._tree, folder)

    def _record_uses(self, db: sqlite3.Connection, uses: list[tuple[str, float]]) -> None:
        with transaction(db):
            places = [(used, place_of_path(path)) for path, used in uses]
            rows = [(used, place.asset, place.name) for used, place in places]
            if self._order.record_uses(db, rows) < len(rows):
                for used, place in places:
                    match_file(db, self._tree, self._order, place, used)

    def _delete_missing(self, db: sqlite3.Connection, paths: Iterable[str]) -> int:
        places = [place_of_path(path) for path in paths]
        known = [place for place in places if has_row(db, place)]
        deleted = 0
        with transaction(db):
            for place in known:
                match_file(db, self._tree, self._order, place, self._now())
                deleted += not has_row(db, place)
        return deleted

    def _lease(self, db: sqlite3.Connection, leases: Mapping[str, float]) -> set[str]:
        leased = set()
        with transaction(db):
            for path, until in leases.items():
                place = place_of_path(path)
                match_file(db, self._tree, self._order, place, self._now())
                rows = db.execute(
                    "UPDATE entries SET lease_until = max(lease_until, ?) "
                    "WHERE asset = ? AND name = ?",
                    (until, place.asset, place.name),
                )
                if rows.rowcount:
                    self._order.record_uses(db, [(self._now(), place.asset, place.name)])
                    leased.add(path)
        return leased

    def _drop(self, db: sqlite3.Connection, asset: str, below: int | None, reason: Reason) -> int:
        rows = db.execute("SELECT name FROM entries WHERE asset = ?", (asset,))
        known = {Place(asset, row[0]) for row in rows} | set(self._tree.names(asset))
        chosen = [p for p in known if below is None or version_of(p.name) < below][:_BATCH]
        return self._remove(db, chosen, reason)

    def _remove(self, db: sqlite3.Connection, places: list[Place], reason: Reason) -> int:
        with transaction(db):
            removed = [place for place in places if self._tree.remove(place)]
            before = read_totals(db).bytes
            delete_rows(db, removed)
            if removed:
                freed = before - read_totals(db).bytes
                self._evictor.count_removal(reason, len(removed), freed)
                self._evictor.stats.dropped += len(removed)
            for asset in {place.asset for place in removed}:
                remove_empty_folder(db, self._tree, asset)
        return len(removed)


def _has_later_turn(db: sqlite3.Connection, moment: float) -> bool:
    query = "SELECT 1 FROM entries WHERE pinned = 0 AND queue = 1 AND turn > ? LIMIT 1"
    return db.execute(query, (moment,)).fetchone() is not None


def _cap_times(db: sqlite3.Connection, now: float, lease_end: float) -> None:
    with transaction(db):
        db.execute(
            "UPDATE entries SET last_used = min(last_used, :now), turn = min(turn, :now), "
            "lease_until = min(lease_until, :lease_end) "
            "WHERE last_used > :now OR turn > :now OR lease_until > :lease_end",
            {"now": now, "lease_end": lease_end},
        )
