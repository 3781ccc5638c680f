"""What keeps index and files in step: uses, leases, drops, the sweep after the dead, the rebuild.

Every difference is settled towards the disk: a row without a file goes, a file without a row is
entered. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from orchestrator.cache.disk.eviction import Reason
from orchestrator.cache.disk.file_names import TEMP_FOLDER, Place, version_of
from orchestrator.cache.disk.files import allocated
from orchestrator.cache.disk.index import read_meta, read_totals, transaction, write_meta
from orchestrator.cache.disk.ledger import Ledger
from orchestrator.cache.locks import release_and_remove, try_lock

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """What the dead had left."""

    holders: int = 0
    bytes: int = 0
    temporaries: int = 0


@dataclass(frozen=True, slots=True)
class Verification:
    """Differences between the index and the files."""

    files: int
    bytes: int
    missing: int
    """Rows without a file."""
    unknown: int
    """Files without a row."""
    resized: int
    """Files of another size than their row says."""
    empty: int
    """Files of no bytes, which are never served."""

    @property
    def sound(self) -> bool:
        """True without any difference."""
        return not (self.missing or self.unknown or self.resized or self.empty)


class Upkeep:
    """Maintenance of one cache through this process's ledger."""

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._index = ledger.index
        self._tree = ledger.tree
        self._now = now

    def record(self, uses: Mapping[str, float]) -> None:
        """Take down when files were last used; `uses` maps a path in the cache to a time."""
        times = list(uses.items())
        for start in range(0, len(times), _BATCH):
            self._index.run(partial(self._record, uses=times[start : start + _BATCH]))

    def reconcile(self, paths: Iterable[str]) -> int:
        """Drop the rows of files that somebody else removed, of `paths`, which were looked for in
        vain; returns how many there were.
        """
        return self._index.run(lambda db: self._reconcile(db, paths))

    def lease(self, leases: Mapping[str, float]) -> set[str]:
        """Protect files from eviction until their times; returns the paths that are there."""
        return self._index.run(lambda db: self._lease(db, leases))

    def drop(self, asset: str, below: int | None, reason: Reason) -> int:
        """Remove an asset's products, or those of versions under `below`; returns files gone."""
        gone = 0
        while names := self._index.run(lambda db: self._drop(db, asset, below, reason)):
            gone += names
        return gone

    def heal(self, place: Place) -> None:
        """Remove a file that cannot be trusted, and its row."""
        self._index.run(lambda db: self._forget(db, [place], "damaged"))

    def sweep(self) -> Swept:
        """Free what ended processes had reserved, and remove their temporary files."""
        return self._index.run(self._sweep)

    def assets(self) -> list[str]:
        """The hashes of all assets with a file or a row: a walk."""
        return sorted({*self._tree.assets(), *self._index.run(_known_assets)})

    def verify(self, *, repair: bool) -> Verification:
        """Compare all rows with all files, a few folders at a time; on demand only, for it walks.

        With `repair` the differences are settled.
        """
        total = Verification(0, 0, 0, 0, 0, 0)
        for asset in self.assets():
            found = self._index.run(partial(self._compare, asset=asset, repair=repair))
            total = Verification(
                *(a + b for a, b in zip(_values(total), _values(found), strict=True))
            )
        return total

    def walk_due_in(self, grace_s: float) -> float | None:
        """Seconds until all files have to be looked for, None when the index knows them all.

        That is `grace_s` seconds after it was begun: by then every living process has told it what
        it holds, so that no room is granted twice.
        """
        since = self._index.run(lambda db: _walking_since(db) if _is_walking(db) else None)
        return None if since is None else since + grace_s - self._now()

    def begin_walk(self) -> Iterator[None] | None:
        """Enter every file that is there, a few folders a step; None if another process is at it.

        Nothing else may grant room meanwhile, so steps may be as far apart as need be. Raises
        OSError.
        """
        path = self._index.folder / "walk.lock"
        descriptor = try_lock(path)
        return None if descriptor is None else self._walk(path, descriptor)

    def _walk(self, path: Path, descriptor: int) -> Iterator[None]:
        try:
            since = self._index.run(_walking_since)
            assets = self._tree.assets()
            while batch := list(islice(assets, 16)):
                self._index.run(partial(self._walk_in, assets=batch))
                yield
            self._index.run(partial(_end_walk, since=since))
        finally:
            release_and_remove(path, descriptor)

    def _record(self, db: sqlite3.Connection, uses: list[tuple[str, float]]) -> None:
        with transaction(db):
            rows = [(used, *_key(path)) for path, used in uses]
            if self._ledger.limits.order.record_uses(db, rows) < len(rows):
                for used, asset, name in rows:
                    self._adopt(db, Place(asset, name), used)

    def _reconcile(self, db: sqlite3.Connection, paths: Iterable[str]) -> int:
        places = [Place(*_key(path)) for path in paths]
        known = [place for place in places if _has_row(db, place)]
        gone = 0
        with transaction(db):
            for place in known:
                self._adopt(db, place, self._now())
                gone += not _has_row(db, place)
        return gone

    def _lease(self, db: sqlite3.Connection, leases: Mapping[str, float]) -> set[str]:
        there = set()
        with transaction(db):
            for path, until in leases.items():
                asset, name = _key(path)
                self._adopt(db, Place(asset, name), self._now())
                done = db.execute(
                    "UPDATE entries SET lease_until = max(lease_until, ?) "
                    "WHERE asset = ? AND name = ?",
                    (until, asset, name),
                )
                if done.rowcount:
                    self._ledger.limits.order.record_uses(db, [(self._now(), asset, name)])
                    there.add(path)
        return there

    def _adopt(self, db: sqlite3.Connection, place: Place, used: float) -> None:
        """Make the row agree with the file, which may be gone or unknown."""
        size = self._tree.size(place)
        if size is None:
            _delete(db, [place])
        elif not _has_row(db, place):
            for folder in (place.asset[:2], place.folder):
                self._ledger.enter_folder(db, folder)
            self._ledger.enter(db, place, size, used)

    def _drop(self, db: sqlite3.Connection, asset: str, below: int | None, reason: Reason) -> int:
        rows = db.execute("SELECT name FROM entries WHERE asset = ?", (asset,))
        known = {Place(asset, row[0]) for row in rows} | set(self._tree.names(asset))
        chosen = [p for p in known if below is None or version_of(p.name) < below][:_BATCH]
        return self._forget(db, chosen, reason)

    def _forget(self, db: sqlite3.Connection, places: list[Place], reason: Reason) -> int:
        with transaction(db):
            gone = [place for place in places if self._tree.remove(place)]
            before = read_totals(db).bytes
            _delete(db, gone)
            if gone:
                self._ledger.evictor.count(reason, len(gone), before - read_totals(db).bytes)
            for asset in {place.asset for place in gone}:
                self._ledger.evictor.leave_folder(db, asset)
        return len(gone)

    def _sweep(self, db: sqlite3.Connection) -> Swept:
        """Temporary files first: their bytes stay counted until they are gone."""
        rows = dict(db.execute("SELECT holder, bytes FROM reservations").fetchall())
        files = self._tree.temporaries()
        dead = {h for h in {*rows, *(h for h, _ in files)} if self._index.is_dead(h)}
        removed = 0
        for holder, path in files:
            if holder in dead:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    removed += 1
        if dead:
            with transaction(db):
                db.executemany("DELETE FROM reservations WHERE holder = ?", [(h,) for h in dead])
        freed = sum(rows.get(holder, 0) for holder in dead)
        return Swept(len(dead & rows.keys()), freed, removed)

    def _compare(self, db: sqlite3.Connection, asset: str, repair: bool) -> Verification:
        rows = dict(
            db.execute("SELECT name, bytes FROM entries WHERE asset = ?", (asset,)).fetchall()
        )
        sizes = {place.name: self._tree.size(place) for place in self._tree.names(asset)}
        there = {name: size for name, size in sizes.items() if size is not None}
        empty = [Place(asset, name) for name, size in there.items() if size == 0]
        if repair:
            with transaction(db):
                for name in {*rows, *there}:
                    self._adopt(db, Place(asset, name), 0.0)
                    if name in there and name in rows:
                        self._ledger.enter(db, Place(asset, name), there[name], 0.0)
            self._forget(db, empty, "damaged")
        return Verification(
            files=len(there),
            bytes=sum(there.values()),
            missing=len(rows.keys() - there.keys()),
            unknown=len(there.keys() - rows.keys()),
            resized=sum(there[name] != rows[name] for name in there.keys() & rows.keys()),
            empty=len(empty),
        )

    def _walk_in(self, db: sqlite3.Connection, assets: Iterable[str]) -> None:
        start, end = self._index.distrusted
        with transaction(db):
            for folder in ("", TEMP_FOLDER):
                self._ledger.enter_folder(db, folder)
            for asset in assets:
                for place in self._tree.names(asset):
                    self._walk_over(db, place, start, end)
                for folder in (asset[:2], f"{asset[:2]}/{asset}"):
                    self._ledger.enter_folder(db, folder)
                self._ledger.evictor.leave_folder(db, asset)

    def _walk_over(self, db: sqlite3.Connection, place: Place, start: float, end: float) -> None:
        try:
            found = (self._tree.root / place.path).stat()
        except OSError:
            return
        if found.st_size == 0 or start <= found.st_mtime < end:
            if self._tree.remove(place):
                _delete(db, [place])
        elif not _has_row(db, place):
            used = max(found.st_mtime, found.st_atime)
            self._ledger.enter(db, place, allocated(found), used)


def _is_walking(db: sqlite3.Connection) -> bool:
    return bool(read_meta(db, "walking"))


def _walking_since(db: sqlite3.Connection) -> float:
    return float(read_meta(db, "walking_since") or 0.0)


def _end_walk(db: sqlite3.Connection, since: float) -> None:
    if _walking_since(db) == since:  # else the index was lost once more in the meantime
        with transaction(db):
            write_meta(db, "walking", 0)


def _key(path: str) -> tuple[str, str]:
    _, asset, name = path.split("/")
    return asset, name


def _has_row(db: sqlite3.Connection, place: Place) -> bool:
    row = db.execute(
        "SELECT 1 FROM entries WHERE asset = ? AND name = ?", (place.asset, place.name)
    )
    return row.fetchone() is not None


def _delete(db: sqlite3.Connection, places: Iterable[Place]) -> None:
    db.executemany(
        "DELETE FROM entries WHERE asset = ? AND name = ?", [(p.asset, p.name) for p in places]
    )


def _known_assets(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT DISTINCT asset FROM entries")]


def _values(found: Verification) -> tuple[int, int, int, int, int, int]:
    return (
        found.files,
        found.bytes,
        found.missing,
        found.unknown,
        found.resized,
        found.empty,
    )
