"""The index of one disk cache: an SQLite file that all processes of the host write under one lock.

It owns the counts: `totals` is kept by triggers, in the transaction of every change, and is never
less than what is on disk. It can be lost: a torn, foreign or missing file is set aside and begun
anew, marked `walking`, and while that lasts no room is granted.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orchestrator.cache.disk.schema import SCHEMA_VERSION, statements
from orchestrator.cache.locks import Mutex, is_same_file, try_lock
from orchestrator.errors import NoRoom

log = logging.getLogger(__name__)
R = TypeVar("R")

_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # a table or column is not there
    sqlite3.SQLITE_IOERR,  # cut short under us
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
}
_WRITTEN_BACK_S = 120
"""The kernel has written a file's bytes to disk this long after they were made (30 s by default).
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the index counts: bytes are allocated blocks, folders included, reservations apart."""

    files: int
    bytes: int
    reserved: int
    walking: bool
    pinned: int = 0
    """Of the bytes, those of pinned files."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of the machine: its id, and when it was (wall clock, seconds)."""

    id: str
    at: float


def this_boot() -> Boot:
    """The machine's present boot; it tells whether page caches may have been lost since."""
    id_path = Path("/proc/sys/kernel/random/boot_id")
    at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Boot(id_path.read_text(encoding="ascii").strip() if id_path.exists() else "", at)


class Index:
    """One process's way into the index; used from one thread only."""

    def __init__(
        self,
        folder: Path,
        *,
        nothing_cached: Callable[[], bool],
        now: Callable[[], float],
        boot: Boot,
    ) -> None:
        """`folder` holds the SQLite file, its locks and one file for each living process.

        `nothing_cached` tells a first start, which has no files to look for, from a lost index.
        """
        self.folder = folder
        self.path = folder / "index.sqlite3"
        self.holders = folder / "holders"
        self.holder = secrets.token_hex(8)
        self.held = 0
        self.distrusted = (0.0, 0.0)
        """Files last written within these times may have lost bytes when the machine went down."""
        self._nothing_cached = nothing_cached
        self._now = now
        self._boot = boot
        self._mutex = Mutex(folder / "index.lock")
        self._alive = -1
        self._db: sqlite3.Connection | None = None
        self._files = ((0, 0), (0, 0))

    def run(self, operation: Callable[[sqlite3.Connection], R]) -> R:
        """Do `operation` under the host-wide lock; again with a new index if this one is damaged.

        Raises NoRoom when there can be no index now (folder unwritable, disk full).
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._mutex.held():
                try:
                    return operation(self._opened())
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._set_aside(error)
                    return operation(self._opened())
        except (sqlite3.Error, OSError) as error:
            self._forget_connection()
            raise NoRoom("The cache cannot be written now.") from error

    def totals(self) -> Totals:
        """The counts as they are now."""
        return self.run(read_totals)

    def close(self) -> None:
        """Give back what is reserved and be gone, as a killed process would have to be found out to
        be.
        """
        with suppress(NoRoom):
            self.run(self._leave)
        self._forget_connection()
        self._mutex.close()
        if self._alive >= 0:
            with suppress(OSError):  # the folder may be read-only by now
                (self.holders / self.holder).unlink(missing_ok=True)
            os.close(self._alive)
            self._alive = -1

    def state(self) -> tuple[tuple[int, int], ...]:
        """Changes with every change of the index by anyone: file and log, when written and how
        long. Blocking, from any thread, and without the lock.
        """
        return tuple(_written(self.path.with_name(self.path.name + end)) for end in ("", "-wal"))

    def is_dead(self, holder: str) -> bool:
        """True if the process of that name has ended; its file is then removed."""
        if holder == self.holder:
            return False
        path = self.holders / holder
        if not path.exists():
            return True
        descriptor = try_lock(path)
        if descriptor is None:
            return False
        path.unlink(missing_ok=True)
        os.close(descriptor)
        return True

    def _leave(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM reservations WHERE holder = ?", (self.holder,))
        self.held = 0

    def _opened(self) -> sqlite3.Connection:
        """The connection, to the file that has the name now: it may have been replaced."""
        if self._db is not None:
            file, log_file = self._identities()
            if (file, log_file) == self._files:
                return self._db
            same_file = file == self._files[0]
            self._forget_connection()
            if same_file:
                self._set_aside(_LogLostError("the write-ahead log was removed"))
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._set_aside(error)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            for suffix in ("-wal", "-shm"):  # of a file that was removed by hand
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._live()
        db = sqlite3.connect(self.path, isolation_level=None, timeout=5)
        try:
            _configure(db)
            self._adopt(db)
        except sqlite3.Error:
            db.close()
            raise
        self._db = db
        self._files = self._identities()
        return db

    def _identities(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the file and its log: a log that is gone took the latest counts with it."""
        return _identity(self.path), _identity(self.path.with_name(self.path.name + "-wal"))

    def _live(self) -> None:
        """Hold this process's own lock, which says that it lives."""
        path = self.holders / self.holder
        if self._alive >= 0 and not is_same_file(path, self._alive):
            os.close(self._alive)
            self._alive = -1
        if self._alive < 0:
            self.holders.mkdir(parents=True, exist_ok=True)
            self._alive = try_lock(path) or -1

    def _adopt(self, db: sqlite3.Connection) -> None:
        """Make an empty file ours, notice a reboot, enter what this process holds."""
        with transaction(db):
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._create(db)
            elif version != SCHEMA_VERSION:
                raise _OtherSchemaError
            elif read_meta(db, "boot") != self._boot.id:
                self._after_reboot(db)
            db.execute(
                "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?)",
                (self.holder, os.getpid(), self.held, self._now()),
            )
            start, end = read_meta(db, "distrust_from"), read_meta(db, "distrust_to")
            self.distrusted = (float(start or 0), float(end or 0))

    def _create(self, db: sqlite3.Connection) -> None:
        for statement in statements():
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        write_meta(db, "boot", self._boot.id)
        if not self._nothing_cached() or self._others_live():
            self._begin_walk(db)

    def _begin_walk(self, db: sqlite3.Connection) -> None:
        write_meta(db, "walking", 1)
        write_meta(db, "walking_since", self._now())

    def _others_live(self) -> bool:
        """True if another process may hold room that an earlier index granted it."""
        others = [path.name for path in self.holders.iterdir() if path.name != self.holder]
        living = [other for other in others if not self.is_dead(other)]
        return bool(living)

    def _after_reboot(self, db: sqlite3.Connection) -> None:
        """Bytes and rows of the last moments may be lost: distrust those files, look at all of
        them.
        """
        latest = db.execute("SELECT max(last_used) FROM entries").fetchone()[0]
        start = (latest or 0.0) - _WRITTEN_BACK_S
        if read_meta(db, "walking"):  # went down again before it was done
            start = min(start, float(read_meta(db, "distrust_from") or start))
        write_meta(db, "distrust_from", start)
        write_meta(db, "distrust_to", self._boot.at)
        write_meta(db, "boot", self._boot.id)
        self._begin_walk(db)
        log.info("cache checked after reboot", extra={"index": str(self.path)})

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        self._forget_connection()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        if self.path.exists():
            self.path.replace(self.path.with_suffix(".broken"))
        log.warning("cache index set aside", extra={"index": str(self.path), "error": repr(error)})

    def _forget_connection(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None


class _OtherSchemaError(sqlite3.DatabaseError):
    """An index of another version of this program: it is rebuilt, not converted."""


class _LogLostError(sqlite3.DatabaseError):
    """Somebody removed the write-ahead log while it was in use."""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def read_totals(db: sqlite3.Connection) -> Totals:
    """The counts of an open index."""
    files, used, pinned = db.execute("SELECT files, bytes, pinned FROM totals").fetchone()
    reserved = db.execute("SELECT total(bytes) FROM reservations").fetchone()[0]
    return Totals(files, used, int(reserved), bool(read_meta(db, "walking")), pinned)


def read_meta(db: sqlite3.Connection, name: str) -> str | float | None:
    """One remembered value."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def write_meta(db: sqlite3.Connection, name: str, value: str | float) -> None:
    """Remember one value."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _configure(db: sqlite3.Connection) -> None:
    # NORMAL: a killed process loses nothing; a power cut may lose the last commits, never the order
    # of the file, and _after_reboot makes up for those. OFF would risk the whole file.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 1000")
    db.execute("PRAGMA cache_size = -8000")
    db.execute("PRAGMA temp_store = MEMORY")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    if isinstance(error, _OtherSchemaError):
        return True
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGE


def is_full(error: BaseException) -> bool:
    """True if the disk has no room for the index."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _written(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
