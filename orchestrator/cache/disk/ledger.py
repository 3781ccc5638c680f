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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cache.disk.eviction import Evictions, Evictor, Limits, Reason
from orchestrator.cache.disk.eviction_policies import Candidate, reorder_index
from orchestrator.cache.disk.file_names import TEMP_FOLDER, Place, share_of
from orchestrator.cache.disk.files import BLOCK, Tree, allocated, rounded
from orchestrator.cache.disk.index import Index, Totals, read_totals, transaction

SLACK = 8 * BLOCK
"""Reserved with every file for what folders may grow by (a new one, its parent, a split)."""
_INDEX_ROOM = 12 * 1024**2
"""Always left free: the index's own log needs it, and without the log nothing can be evicted."""
_SPARE = 4 * 1024**2
_ROUNDS = 8
_RELIEF = 32


@dataclass(slots=True)
class Publication:
    """A written temporary file to be made a product; `need` bytes of our room are its own."""

    place: Place
    temp: Path
    need: int
    pinned: bool = False


class Ledger:
    """This process's account with the index."""

    def __init__(self, index: Index, tree: Tree, limits: Limits, now: Callable[[], float]) -> None:
        self.index = index
        self.tree = tree
        self.limits = limits
        self.evictor = Evictor(tree, limits, now)
        self.free = 0
        """Of what this process holds, the bytes no write has claimed."""
        self.vanished = 0
        """Files found gone, though nobody evicted them, when they were made again."""
        self.now = now
        self._spare = spare_bytes(limits.quota)

    @property
    def evictions(self) -> Evictions:
        """What this process has evicted."""
        return self.evictor.done

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
                self.free += publication.need
                with suppress(OSError):  # a published one has no temporary name
                    publication.temp.unlink()
        if any(self.tree.folder_size(name) != size for name, size in folders.items()):
            self.index.run(lambda db: self._measure(db, folders))
        return done

    def relieve(self) -> int:
        """Remove a few files, unknown to the index, when the disk is too full to write it.

        Their rows count on until they are found out (which is safe); returns the files gone.
        """
        return sum(self.tree.remove(c.place) for c in self.candidates(_RELIEF))

    def candidates(self, limit: int) -> list[Candidate]:
        """The entries that may be evicted, about in the order of their turn."""
        return self.index.run(lambda db: self.evictor.candidates(db, limit))

    def victims(self, wanted: int) -> list[Candidate]:
        """Whose turn it is, until they free `wanted` bytes; a bounded number, so ask again."""
        return self.index.run(lambda db: self._victims(db, wanted))

    def over_shares(self) -> list[Candidate]:
        """What products over their share have to give up."""
        return self.index.run(self.evictor.over_shares)

    def evict(self, candidates: Iterable[Candidate], reason: Reason) -> tuple[int, int]:
        """Remove those that were not used since they were found; returns (files, bytes) gone."""
        return self.index.run(lambda db: self._evict_unused(db, list(candidates), reason))

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

    def enter_folder(self, db: sqlite3.Connection, folder: str, text: str = "") -> int:
        """Count a folder as large as it is now; `text` is the id of its asset, if known; returns
        its bytes.
        """
        size = self.tree.folder_size(folder) or 0
        row = db.execute("SELECT bytes, asset FROM folders WHERE path = ?", (folder,)).fetchone()
        if row is None:
            db.execute("INSERT INTO folders VALUES (?, ?, ?)", (folder, size, text))
        elif row[0] != size or (text and row[1] != text):
            known = (size, text or row[1], folder)
            db.execute("UPDATE folders SET bytes = ?, asset = ? WHERE path = ?", known)
        return size

    def enter(self, db: sqlite3.Connection, place: Place, size: int, used: float) -> None:
        """Count a file, in place of what was known of it."""
        order = self.limits.order
        key = place.asset, place.name
        queue, turn = order.position_of_new(db, place, used)
        db.execute(
            "INSERT INTO entries (asset, name, bytes, last_used, share, queue, turn, pinned) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, EXISTS (SELECT 1 FROM pins p WHERE p.asset = ?1)) "
            "ON CONFLICT (asset, name) DO UPDATE SET bytes = excluded.bytes, "
            "pinned = excluded.pinned, last_used = max(last_used, excluded.last_used), "
            "turn = CASE WHEN ?8 THEN max(turn, excluded.turn) ELSE turn END",
            (*key, size, used, share_of(place.name), queue, turn, order.is_by_last_use),
        )

    def _refill(self, db: sqlite3.Connection, missing: int) -> bool:
        """Reserve `missing` bytes and some to spare; False if there is no sense in trying again."""
        with transaction(db):
            totals = read_totals(db)
            if totals.walking and self.limits.quota:
                return False
            wanted = missing + self._spare
            room, bound = self._room(totals)
            if room < wanted and room + totals.bytes - totals.pinned < missing:
                return False  # evicting everything would not do: nothing is evicted for it
            progress = room >= missing
            if room < wanted:
                gone = self.evictor.make_room(db, wanted - room, bound)
                room, _ = self._room(read_totals(db))
                progress = progress or gone > 0
            granted = missing + min(self._spare, (room - missing) // 4) if room >= missing else 0
            db.execute(
                "UPDATE reservations SET bytes = bytes + ? WHERE holder = ?",
                (granted, self.index.holder),
            )
        self.index.held += granted
        self.free += granted
        return progress

    def _room(self, totals: Totals) -> tuple[int, Reason]:
        """Bytes that may still be reserved, and what bounds them."""
        floor = max(self.limits.floor, _INDEX_ROOM)
        disk = self.tree.free_bytes() - floor - totals.reserved
        quota = self.limits.quota - totals.bytes - totals.reserved
        if not self.limits.quota or disk < quota:
            return disk, "floor"
        return quota, "quota"

    def _evict_unused(
        self, db: sqlite3.Connection, candidates: list[Candidate], reason: Reason
    ) -> tuple[int, int]:
        with transaction(db):
            return self.evictor.remove(db, self.evictor.unused(db, candidates), reason)

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
            entered: list[Publication] = []
            for publication in batch:
                if self._enter_one(db, publication, {p.place for p in entered}):
                    entered.append(publication)
            for name, text in _folders_of(entered).items():
                folders[name] = self.enter_folder(db, name, text)
        # The lock is still held: nobody evicts an entry whose file has not got its name yet.
        failed = [p for p in entered if not self._named(p)]
        if failed:
            with self.charged(db):
                db.executemany(
                    "DELETE FROM entries WHERE asset = ? AND name = ?",
                    [(p.place.asset, p.place.name) for p in failed],
                )
        return [p for p in entered if p not in failed]

    def _enter_one(
        self, db: sqlite3.Connection, publication: Publication, entered: set[Place]
    ) -> bool:
        place = publication.place
        try:
            size = allocated(publication.temp.stat())
            kept = {*entered, place}
            if not self.evictor.fits_share(db, share_of(place.name), size, kept):
                return False
            self.tree.make_folder(place)
        except OSError:
            return False
        known = "SELECT 1 FROM entries WHERE asset = ? AND name = ?"
        if db.execute(known, (place.asset, place.name)).fetchone():
            self.vanished += self.tree.size(place) is None
        if publication.pinned:
            db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?)", (place.asset, place.text))
        self.enter(db, place, size, self.now())
        return True

    def _named(self, publication: Publication) -> bool:
        try:
            self.tree.publish(publication.temp, publication.place)
        except OSError:
            return False
        return True

    def _victims(self, db: sqlite3.Connection, wanted: int) -> list[Candidate]:
        with transaction(db):
            return self.evictor.victims(db, wanted)

    def _enter_roots(self, db: sqlite3.Connection) -> None:
        reorder_index(db, self.limits.order)
        with transaction(db):
            for folder in ("", TEMP_FOLDER):
                self.enter_folder(db, folder)

    def _measure(self, db: sqlite3.Connection, folders: Iterable[str]) -> None:
        with self.charged(db):
            for name in folders:
                self.enter_folder(db, name)


def spare_bytes(quota: int) -> int:
    """Bytes to reserve beyond what a write needs, so that most writes reserve nothing."""
    return min(_SPARE, quota // 64) if quota else _SPARE


def room_for(size: int) -> int:
    """Bytes to reserve for a file of `size` bytes: its blocks and what folders may grow by."""
    return rounded(size) + SLACK


def _folders_of(publications: list[Publication]) -> dict[str, str]:
    """The folders that may have grown, in order; with the asset's id where they are an asset's."""
    names = {"": "", TEMP_FOLDER: ""}
    for publication in publications:
        place = publication.place
        names |= {place.asset[:2]: "", place.folder: place.text}
    return dict(sorted(names.items()))


def _used(db: sqlite3.Connection) -> int:
    used: int = db.execute("SELECT bytes FROM totals").fetchone()[0]
    return used
