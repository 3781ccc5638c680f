"""The embedded PostgreSQL below the data directory, for installations that configure no database.

`serve` and commands share one server. The first process starts it and the last one stops it. Each
process holds a shared lock on a file while it uses the server. The kernel releases the lock when
the process ends, even after kill -9, so the lock always shows whether the server has users. A
second, exclusive lock is held while a process starts or stops the server.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from pydantic import SecretStr

from orchestrator.catalog.embedded.server import PostgresFolder
from orchestrator.errors import CatalogUnavailable
from orchestrator.fault_log import FaultLog
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
_LOCK_TIMEOUT_S = 90.0
"""How long another process may take to start or stop the server, including a recovery after a
crash.
"""

WATCH_EVERY_S = 1.0
"""How often a service checks that the server is running."""


@contextmanager
def database(settings: Settings, *, watched: bool = False) -> Iterator[Settings]:
    """The settings with the address of a database: the configured one, else the embedded one, which
    runs until the end of the block.

    `watched`: an embedded server that dies is started again, which a service needs and a command
    does not. Blocks, so it must be used outside the event loop. Raises CatalogUnavailable when the
    embedded server does not start.
    """
    if settings.database.dsn.get_secret_value():
        yield settings
        return
    with embedded(settings.data_dir) as server:
        embedded_database = settings.database.model_copy(update={"dsn": SecretStr(server.dsn)})
        with _watching(server) if watched else nullcontext():
            yield settings.model_copy(update={"database": embedded_database})


@contextmanager
def _watching(server: EmbeddedDatabase) -> Iterator[None]:
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(server, ended), name="database", daemon=True)
    try:
        watcher.start()
        yield
    finally:
        # The thread must end first: a server started after the last user left would never be
        # stopped.
        ended.set()
        if watcher.ident is not None:
            watcher.join()


def _watch(server: EmbeddedDatabase, ended: threading.Event) -> None:
    faults = FaultLog(log, "embedded database not started", "embedded database started again")
    while not ended.wait(WATCH_EVERY_S):
        try:
            server.revive()
            faults.clear()
        except CatalogUnavailable as error:
            faults.report(reason=error.public)
        except Exception as error:  # the thread must survive any failure of one round; logged
            faults.report(bug=error)


@contextmanager
def embedded(data_dir: Path) -> Iterator[EmbeddedDatabase]:
    """Run the embedded server below `data_dir`. It is stopped at the end unless other processes use
    it. Blocks. Raises CatalogUnavailable.
    """
    with ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            decision_lock = stack.enter_context((data_dir / "postgres.lock").open("ab"))
            users_lock = stack.enter_context((data_dir / "postgres.users").open("ab"))
        except OSError as error:
            raise CatalogUnavailable(
                f"The data directory {data_dir} cannot be used. Check its rights."
            ) from error
        folder = PostgresFolder(data_dir / "postgres", lock=decision_lock.fileno())
        server = EmbeddedDatabase(folder, decision_lock, users_lock)
        try:
            server.enter()  # in the block: a signal may end it when the server runs already
            yield server
        finally:
            server.leave()


class EmbeddedDatabase:
    """One process's use of the embedded server. `embedded` creates it."""

    def __init__(
        self, folder: PostgresFolder, decision_lock: BinaryIO, users_lock: BinaryIO
    ) -> None:
        self._folder = folder
        self._decision_lock = decision_lock
        self._users_lock = users_lock
        self.dsn = ""
        """The address of the server: a Unix socket that only this user and root can open."""

    def enter(self) -> None:
        """Use the server. It is started if it does not run. Raises CatalogUnavailable."""
        with self._lock_decision():
            self.dsn = self._folder.ensure_running()
            fcntl.flock(self._users_lock, fcntl.LOCK_SH)

    def revive(self) -> bool:
        """Start the server again if it has died; returns True if it had. Blocks. Raises
        CatalogUnavailable.
        """
        if self._folder.is_running():
            return False
        with self._lock_decision():
            if self._folder.is_running():
                return False
            log.warning("embedded database died")
            self.dsn = self._folder.ensure_running()
        return True

    def leave(self) -> None:
        """Stop using the server. The last process that uses it stops it."""
        with self._lock_decision():
            fcntl.flock(self._users_lock, fcntl.LOCK_UN)
            if _try_lock(self._users_lock):
                self._folder.stop()
                fcntl.flock(self._users_lock, fcntl.LOCK_UN)

    @contextmanager
    def _lock_decision(self) -> Iterator[None]:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(self._decision_lock):
            if time.monotonic() > deadline:
                raise CatalogUnavailable(
                    "Another process takes too long to start or stop the embedded PostgreSQL. "
                    "Try again, or end that process."
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            fcntl.flock(self._decision_lock, fcntl.LOCK_UN)


def _try_lock(file: BinaryIO) -> bool:
    """Take the exclusive lock unless another process has a lock on the file; True if taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
