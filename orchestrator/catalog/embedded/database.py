"""PostgreSQL from a wheel, below the data directory, for installations that name no database.

Started by whoever comes first and stopped by whoever leaves last: `serve` and commands share one
server. Each holds a shared lock on a file while it uses the server, which the system drops with
the process, however that ends; so no list of users can be wrong. Starting and stopping are
decided under a second, exclusive lock.
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
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
_PATIENCE_S = 90.0
"""How long another process may take to start or stop the server (a recovery after a crash
included).
"""

WATCH_EVERY_S = 1.0
"""How soon a server that died is noticed by whoever serves."""


@contextmanager
def database(settings: Settings, *, watched: bool = False) -> Iterator[Settings]:
    """The settings with a database in them: the configured one, else the embedded one, which runs
    meanwhile.

    `watched`: an embedded one that dies is started again, which a service needs and a command does
    not. Blocks, so it goes around an event loop, not inside one. Raises CatalogUnavailable when the
    embedded one does not start.
    """
    if settings.database.dsn.get_secret_value():
        yield settings
        return
    with embedded(settings.data_dir) as server:
        found = settings.database.model_copy(update={"dsn": SecretStr(server.dsn)})
        with _watching(server) if watched else nullcontext():
            yield settings.model_copy(update={"database": found})


@contextmanager
def _watching(server: EmbeddedDatabase) -> Iterator[None]:
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(server, ended), name="database", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()  # waited for: a server revived after the last user left would run for ever
        watcher.join()


def _watch(server: EmbeddedDatabase, ended: threading.Event) -> None:
    while not ended.wait(WATCH_EVERY_S):
        try:
            server.revive()
        except CatalogUnavailable as error:
            log.warning("embedded database does not start", extra={"reason": error.public})


@contextmanager
def embedded(data_dir: Path) -> Iterator[EmbeddedDatabase]:
    """The embedded server below `data_dir`, running; stopped at the end unless others still use it.

    Blocks. Raises CatalogUnavailable.
    """
    with ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            deciding = stack.enter_context((data_dir / "postgres.lock").open("ab"))
            using = stack.enter_context((data_dir / "postgres.users").open("ab"))
        except OSError as error:
            raise CatalogUnavailable(f"The data directory {data_dir} cannot be used.") from error
        folder = PostgresFolder(data_dir / "postgres", lock=deciding.fileno())
        server = EmbeddedDatabase(folder, deciding, using)
        server.enter()
        try:
            yield server
        finally:
            server.leave()


class EmbeddedDatabase:
    """One process's use of the embedded server; made by `embedded`."""

    def __init__(self, folder: PostgresFolder, deciding: BinaryIO, using: BinaryIO) -> None:
        self._folder = folder
        self._deciding = deciding
        self._using = using
        self.dsn = ""
        """Where the server is reached: a Unix socket only this user, or root, can open."""

    def enter(self) -> None:
        """Begin to use the server; it is started if it does not run. Raises CatalogUnavailable."""
        with self._decision():
            self.dsn = self._folder.ensure_running()
            fcntl.flock(self._using, fcntl.LOCK_SH)

    def revive(self) -> bool:
        """Start the server again if it has died; True if it had. Raises CatalogUnavailable.
        Blocks.
        """
        if self._folder.is_running():
            return False
        with self._decision():
            if self._folder.is_running():
                return False
            log.warning("embedded database had died")
            self.dsn = self._folder.ensure_running()
        return True

    def leave(self) -> None:
        """End the use of the server; the last one to leave stops it."""
        with self._decision():
            fcntl.flock(self._using, fcntl.LOCK_UN)
            if _locked(self._using):
                self._folder.stop()
                fcntl.flock(self._using, fcntl.LOCK_UN)

    @contextmanager
    def _decision(self) -> Iterator[None]:
        deadline = time.monotonic() + _PATIENCE_S
        while not _locked(self._deciding):
            if time.monotonic() > deadline:
                raise CatalogUnavailable(
                    "Another process keeps starting or stopping the embedded PostgreSQL."
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            fcntl.flock(self._deciding, fcntl.LOCK_UN)


def _locked(file: BinaryIO) -> bool:
    """Take the exclusive lock if nobody has the file locked; True if taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
