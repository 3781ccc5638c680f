"""Room on disk: reserved before bytes are written, settled when they are published, made by
eviction.

Every process holds one reservation and writes out of it; what the index counts as used and reserved
together is never less than what `du` finds, and never more than the quota. Order is what keeps
that true through a `kill -9`: a row is committed before its file gets its name, a file is removed
before its bytes are given free, all under the index's lock. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cache.index import Index, Totals, read_totals, transaction
from orchestrator.cache.layout import TEMP_FOLDER, Place
from orchestrator.cache.tree import BLOCK, Tree, allocated, rounded

SLACK = 8 * BLOCK
"""Reserved with every file for what folders may grow by (a new one, its parent, a split)."""
_INDEX_ROOM = 12 * 1024**2
"""Always left free: the index's own log needs it, and without the log nothing can be evicted."""
_SPARE = 4 * 1024**2
_EVICTED_AT_ONCE = 256
_ROUNDS = 8
_RELIEF = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a cache may use: `quota` of allocated blocks (0: no limit), leaving `floor` free."""

    quota: int
    floor: int


@dataclass(slots=True)
class Publication:
    """A written temporary file to be made a product; `need` bytes of our room are its own."""

    place: Place
    temp: Path
    need: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be evicted, as it was found."""

    id: int
    place: Place
    bytes: int
    last_used: float


@dataclass(slots=True)
class Evictions:
    """What evictions came to since the start of this process."""

    files: int = 0
    bytes: int = 0
    last_age_s: float = 0.0
    """Seconds between its last use and its eviction, of the entry evicted last."""


class Ledger:
    """This process's account with the index."""

    def __init__(self, index: Index, tree: Tree, limits: Limits, now: Callable[[], float]) -> None:
        self.index = index
        self.tree = tree
        self.limits = limits
        self.evictions = Evictions()
        self.free = 0
        """Of what this process holds, the bytes no write has claimed."""
        self._now = now
        self._spare = min(_SPARE, limits.quota // 64) if limits.quota else _SPARE

    def open(self) -> None:
        """Count the cache's own folders. Raises NoRoom when the index cannot be used."""
        self.index.run(self._enter_roots)

    def claim(self, need: int) -> bool:
        """True if `need` bytes are now set apart for a write; evicts others' last used to get them.

        Raises NoRoom when the index cannot be used.
        """
        for _ in range(_ROUNDS):
            if self.free >= need:
                self.free -= need
                return True
            if not self.index.run(lambda db: self._refill(db, need - self.free)):
                return False
        return False

    def unclaim(self, need: int) -> None:
        """Give back what `claim` set apart and nothing was written into."""
        self.free += need

    def release_free(self) -> None:
        """Let other processes have what this one does not need now."""
        if self.free > 0:
            self.index.run(self._release)

    def settle(self, publications: Iterable[Publication]) -> list[Publication]:
        """Enter the files, then give them their names; returns those that are published.

        The temporary files of the others are removed. Raises NoRoom when the index cannot be used,
        and then nothing is published.
        """
        batch = list(publications)
        folders: dict[str, int] = {}
        try:
            done = self.index.run(lambda db: self._enter(db, batch, folders))
        finally:
            for publication in batch:
                publication.temp.unlink(missing_ok=True)  # a published one has no temporary name
                self.free += publication.need
        if any(self.tree.folder_size(name) != size for name, size in folders.items()):
            self.index.run(lambda db: self._measure(db, folders))
        return done

    def relieve(self) -> int:
        """Remove a few files, unknown to the index, when the disk is too full to write it.

        Their rows count on until they are found out (which is safe); returns the files gone.
        """
        return sum(self.tree.remove(c.place) for c in self.candidates(_RELIEF))

    def candidates(self, limit: int) -> list[Candidate]:
        """The entries that may be evicted, least recently used first."""
        return self.index.run(lambda db: self._candidates(db, limit))

    def evict(self, candidates: Iterable[Candidate]) -> tuple[int, int]:
        """Remove those that were not used since they were found; returns (files, bytes) gone."""
        return self.index.run(lambda db: self._evict_unused(db, list(candidates)))

    @contextmanager
    def charged(self, db: sqlite3.Connection) -> Iterator[None]:
        """A transaction whose change of the used bytes comes out of what this process holds."""
        with transaction(db):
            before = _used(db)
            yield
            delta = _used(db) - before
            db.execute(
                "UPDATE reservations SET bytes = bytes - ? WHERE holder = ?",
                (delta, self.index.holder),
            )
        self.index.held -= delta
        self.free -= delta

    def enter_folder(self, db: sqlite3.Connection, folder: str) -> int:
        """Count a folder as large as it is now; returns its bytes."""
        size = self.tree.folder_size(folder) or 0
        row = db.execute("SELECT bytes FROM folders WHERE path = ?", (folder,)).fetchone()
        if row is None:
            db.execute("INSERT INTO folders VALUES (?, ?)", (folder, size))
        elif row[0] != size:
            db.execute("UPDATE folders SET bytes = ? WHERE path = ?", (size, folder))
        return size

    def enter(self, db: sqlite3.Connection, place: Place, size: int, used: float) -> None:
        """Count a file, in place of what was known of it."""
        db.execute(
            "INSERT INTO entries (asset, name, bytes, last_used) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (asset, name) DO UPDATE SET bytes = excluded.bytes, "
            "last_used = max(last_used, excluded.last_used)",
            (place.asset, place.name, size, used),
        )

    def leave_folder(self, db: sqlite3.Connection, asset: str) -> None:
        """Remove an asset's folder if nothing is left in it."""
        folder = f"{asset[:2]}/{asset}"
        if self.tree.remove_folder(folder):
            db.execute("DELETE FROM folders WHERE path = ?", (folder,))

    def _refill(self, db: sqlite3.Connection, missing: int) -> bool:
        """Reserve `missing` bytes and some to spare; False if there is no sense in trying again."""
        with transaction(db):
            totals = read_totals(db)
            if totals.walking and self.limits.quota:
                return False
            wanted = missing + self._spare
            room = self._room(totals)
            if room < wanted and not self._attainable(totals, missing):
                return False
            progress = room >= missing
            if room < wanted:
                gone = self._make_room(db, wanted - room)
                room = self._room(read_totals(db))
                progress = progress or gone > 0
            granted = missing + min(self._spare, (room - missing) // 4) if room >= missing else 0
            db.execute(
                "UPDATE reservations SET bytes = bytes + ? WHERE holder = ?",
                (granted, self.index.holder),
            )
        self.index.held += granted
        self.free += granted
        return progress

    def _room(self, totals: Totals) -> int:
        floor = max(self.limits.floor, _INDEX_ROOM)
        disk = self.tree.free_bytes() - floor - totals.reserved
        if not self.limits.quota:
            return disk
        return min(disk, self.limits.quota - totals.bytes - totals.reserved)

    def _attainable(self, totals: Totals, missing: int) -> bool:
        """Whether evicting everything could do: else nothing is evicted for it."""
        return self._room(totals) + totals.bytes >= missing

    def _make_room(self, db: sqlite3.Connection, missing: int) -> int:
        """Evict least recently used first until `missing` bytes are freed; bounded; files gone."""
        found = self._candidates(db, _EVICTED_AT_ONCE)
        chosen, freed = [], 0
        for candidate in found:
            if freed >= missing:
                break
            chosen.append(candidate)
            freed += candidate.bytes
        return self._remove(db, chosen)[0]

    def _candidates(self, db: sqlite3.Connection, limit: int) -> list[Candidate]:
        rows = db.execute(
            "SELECT id, asset, name, bytes, last_used FROM entries "
            "WHERE pinned = 0 AND lease_until <= ? ORDER BY last_used LIMIT ?",
            (self._now(), limit),
        )
        return [Candidate(row[0], Place(row[1], row[2]), row[3], row[4]) for row in rows]

    def _evict_unused(self, db: sqlite3.Connection, candidates: list[Candidate]) -> tuple[int, int]:
        still = "SELECT 1 FROM entries WHERE id = ? AND last_used = ? AND lease_until <= ?"
        with transaction(db):
            now = self._now()
            unused = [
                c for c in candidates if db.execute(still, (c.id, c.last_used, now)).fetchone()
            ]
            return self._remove(db, unused)

    def _remove(self, db: sqlite3.Connection, candidates: list[Candidate]) -> tuple[int, int]:
        """Files first, rows after: a kill between leaves rows too many, which counts too much."""
        gone = [c for c in candidates if self.tree.remove(c.place)]
        db.executemany("DELETE FROM entries WHERE id = ?", [(c.id,) for c in gone])
        for asset in dict.fromkeys(c.place.asset for c in gone):
            self.leave_folder(db, asset)
        if gone:
            freed = sum(c.bytes for c in gone)
            self.evictions.files += len(gone)
            self.evictions.bytes += freed
            self.evictions.last_age_s = max(0.0, self._now() - gone[-1].last_used)
            return len(gone), freed
        return 0, 0

    def _release(self, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE reservations SET bytes = bytes - ? WHERE holder = ?",
            (self.free, self.index.holder),
        )
        self.index.held -= self.free
        self.free = 0

    def _enter(
        self, db: sqlite3.Connection, batch: list[Publication], folders: dict[str, int]
    ) -> list[Publication]:
        with self.charged(db):
            entered = [p for p in batch if self._enter_one(db, p)]
            for name in _folders_of(entered):
                folders[name] = self.enter_folder(db, name)
        # The lock is still held: nobody evicts an entry whose file has not got its name yet.
        failed = [p for p in entered if not self._named(p)]
        if failed:
            with self.charged(db):
                db.executemany(
                    "DELETE FROM entries WHERE asset = ? AND name = ?",
                    [(p.place.asset, p.place.name) for p in failed],
                )
        return [p for p in entered if p not in failed]

    def _enter_one(self, db: sqlite3.Connection, publication: Publication) -> bool:
        try:
            self.tree.make_folder(publication.place)
            size = allocated(publication.temp.stat())
        except OSError:
            return False
        self.enter(db, publication.place, size, self._now())
        return True

    def _named(self, publication: Publication) -> bool:
        try:
            self.tree.publish(publication.temp, publication.place)
        except OSError:
            return False
        return True

    def _enter_roots(self, db: sqlite3.Connection) -> None:
        with transaction(db):
            for folder in ("", TEMP_FOLDER):
                self.enter_folder(db, folder)

    def _measure(self, db: sqlite3.Connection, folders: Iterable[str]) -> None:
        with self.charged(db):
            for name in folders:
                self.enter_folder(db, name)


def room_for(size: int) -> int:
    """Bytes to reserve for a file of `size` bytes: its blocks and what folders may grow by."""
    return rounded(size) + SLACK


def _folders_of(publications: list[Publication]) -> list[str]:
    names = {"", TEMP_FOLDER}
    for publication in publications:
        names.update((publication.place.folder, publication.place.asset[:2]))
    return sorted(names)


def _used(db: sqlite3.Connection) -> int:
    used: int = db.execute("SELECT bytes FROM totals").fetchone()[0]
    return used
