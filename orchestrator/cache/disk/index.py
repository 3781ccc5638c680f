"""The index of one disk cache: an SQLite file that all processes of the host write under one lock.

It holds the counts: triggers update `totals` in the transaction of every change, and `totals` is
never less than what is on disk. It can be lost: a damaged, foreign or missing file is set aside and
a new one is created, marked `walking`. While it is marked, no room is granted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orchestrator.cache.disk.live_processes import LiveProcesses
from orchestrator.cache.disk.schema import SCHEMA_VERSION, statements
from orchestrator.cache.locks import Mutex
from orchestrator.errors import NoRoom
from orchestrator.exception_text import describe_error

log = logging.getLogger(__name__)
R = TypeVar("R")

_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # a table or column is missing
    sqlite3.SQLITE_IOERR,  # the file was truncated while open
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
}
_NOT_WRITABLE = {
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,  # no room: SQLite allocates this file before it maps it
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
}
"""I/O errors of a disk that cannot be written: the index is whole."""
_WRITTEN_BACK_S = 120
"""The kernel has written a file's bytes to disk after this time (it does so within 30 s by
default).
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts of the index: `bytes` are allocated blocks, with folders, without reservations."""

    files: int
    bytes: int
    reserved: int
    walking: bool
    """True while a lost index is rebuilt from the files."""
    pinned: int = 0
    """Of the bytes, those of pinned files."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of the machine: its id, and its time (wall clock, seconds)."""

    id: str
    at: float


def this_boot() -> Boot:
    """The present boot. A different boot than the index's means that the page cache was lost."""
    id_path = Path("/proc/sys/kernel/random/boot_id")
    at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Boot(id_path.read_text(encoding="ascii").strip() if id_path.exists() else "", at)


class Index:
    """One process's connection to the index; used from one thread only."""

    def __init__(
        self,
        folder: Path,
        *,
        nothing_cached: Callable[[], bool],
        now: Callable[[], float],
        boot: Boot,
    ) -> None:
        """`folder` holds the SQLite file, its locks and one file for each living process.

        `nothing_cached` distinguishes a first start, without files to find, from a lost index.
        """
        self.folder = folder
        self.path = folder / "index.sqlite3"
        self.processes = LiveProcesses(folder / "holders")
        self.holder = self.processes.own
        """The name of this process in reservations and temporary files."""
        self.reserved = 0
        """The bytes of this process's reservation."""
        self._distrusted = (0.0, 0.0)
        """Files last written between these times may have lost bytes when the machine stopped."""
        self._nothing_cached = nothing_cached
        self._now = now
        self._boot = boot
        self._mutex = Mutex(folder / "index.lock")
        self._db: sqlite3.Connection | None = None
        self._files = ((0, 0), (0, 0))

    def run(self, operation: Callable[[sqlite3.Connection], R]) -> R:
        """Run `operation` under the host-wide lock; once more with a new index if this one is
        damaged.

        Raises NoRoom when the index cannot be used (folder not writable, disk full).
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._mutex.hold():
                try:
                    return operation(self._connection())
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._set_aside(error)
                    return operation(self._connection())
        except (sqlite3.Error, OSError) as error:
            self._close_connection()
            raise NoRoom("The cache cannot be written now.") from error

    def totals(self) -> Totals:
        """The present counts."""
        return self.run(read_totals)

    def close(self) -> None:
        """Give back what is reserved, and unregister this process: no other process has to find
        out that it ended.
        """
        with suppress(NoRoom):
            self.run(self._release_all)
        self._close_connection()
        self._mutex.close()
        self.processes.unregister()

    def state(self) -> tuple[tuple[int, int], ...]:
        """(time of the last write, size) of the file and its log: changes with every change of the
        index by any process. Blocking; takes no lock; may be called from any thread.
        """
        return tuple(
            _time_and_size(self.path.with_name(self.path.name + end)) for end in ("", "-wal")
        )

    def is_trusted(self, status: os.stat_result) -> bool:
        """False for a file that a power cut may have damaged: empty, or written just before it."""
        start, end = self._distrusted
        return status.st_size > 0 and not start <= status.st_mtime < end

    def _release_all(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM reservations WHERE holder = ?", (self.holder,))
        self.reserved = 0

    def _connection(self) -> sqlite3.Connection:
        """The connection to the file that has the name now; the file may have been replaced."""
        if self._db is not None:
            file, log_file = self._identities()
            if (file, log_file) == self._files:
                return self._db
            same_file = file == self._files[0]
            self._close_connection()
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
            for suffix in ("-wal", "-shm"):  # left over from a file that was deleted externally
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.processes.register()
        db = sqlite3.connect(self.path, isolation_level=None, timeout=5)
        try:
            _configure(db)
            self._prepare(db)
        except sqlite3.Error:
            db.close()
            raise
        self._db = db
        self._files = self._identities()
        return db

    def _identities(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The identities of the file and its log: a missing log had the latest counts."""
        return _identity(self.path), _identity(self.path.with_name(self.path.name + "-wal"))

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Create the tables of a new file, detect a reboot, enter this process's reservation."""
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
                (self.holder, os.getpid(), self.reserved, self._now()),
            )
            start, end = read_meta(db, "distrust_from"), read_meta(db, "distrust_to")
            self._distrusted = (float(start or 0), float(end or 0))

    def _create(self, db: sqlite3.Connection) -> None:
        for statement in statements():
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        write_meta(db, "boot", self._boot.id)
        if not self._nothing_cached() or self.processes.others_live():
            self._begin_walk(db)

    def _begin_walk(self, db: sqlite3.Connection) -> None:
        write_meta(db, "walking", 1)
        write_meta(db, "walking_since", self._now())

    def _after_reboot(self, db: sqlite3.Connection) -> None:
        """The latest bytes and rows may be lost: distrust the files of that time, and walk over
        all files.
        """
        latest = db.execute("SELECT max(last_used) FROM entries").fetchone()[0]
        start = (latest or 0.0) - _WRITTEN_BACK_S
        if read_meta(db, "walking"):  # the machine stopped again before the walk ended
            start = min(start, float(read_meta(db, "distrust_from") or start))
        write_meta(db, "distrust_from", start)
        write_meta(db, "distrust_to", self._boot.at)
        write_meta(db, "boot", self._boot.id)
        self._begin_walk(db)
        log.info("cache checked after reboot", extra={"index": str(self.path)})

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        self._close_connection()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        if self.path.exists():
            self.path.replace(self.path.with_name(f"{self.path.name}.broken"))
        log.warning(
            "cache index set aside", extra={"index": str(self.path), "error": describe_error(error)}
        )

    def _close_connection(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None


class _OtherSchemaError(sqlite3.DatabaseError):
    """An index of another version of this program: it is rebuilt, not converted."""


class _LogLostError(sqlite3.DatabaseError):
    """The write-ahead log was deleted externally while it was in use."""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end of the block; roll back on any exception."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:  # a cancelled transaction must be rolled back too; re-raised
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def read_totals(db: sqlite3.Connection) -> Totals:
    """The counts of an index, inside the caller's transaction."""
    files, used, pinned = db.execute("SELECT files, bytes, pinned FROM totals").fetchone()
    reserved = db.execute("SELECT total(bytes) FROM reservations").fetchone()[0]
    return Totals(files, used, int(reserved), bool(read_meta(db, "walking")), pinned)


def read_meta(db: sqlite3.Connection, name: str) -> str | float | None:
    """A value of the table `meta`; None if it is not set."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def write_meta(db: sqlite3.Connection, name: str, value: str | float) -> None:
    """Set a value of the table `meta`."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _configure(db: sqlite3.Connection) -> None:
    # NORMAL: a killed process loses nothing. A power cut may lose the last commits but does not
    # damage the file, and _after_reboot finds what was lost. OFF would risk the whole file.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 1000")
    db.execute("PRAGMA cache_size = -8000")
    db.execute("PRAGMA temp_store = MEMORY")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    if isinstance(error, _OtherSchemaError):
        return True
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGE and code not in _NOT_WRITABLE


def is_full(error: BaseException) -> bool:
    """True if the disk has no room for the index."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _time_and_size(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
