"""Which installations run on this machine: `serve` records its data directory, and commands without
`--data` find it.

A record is a file in the user's state directory that its writer keeps locked. The record of a
process that was killed is recognised by its free lock.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from orchestrator.settings import Settings

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Installation:
    """A data directory and its database: EMBEDDED, or the address of the configured database
    without user and password.
    """

    data_dir: Path
    database: str

    def __str__(self) -> str:
        """The directory, and the database unless it is the embedded one."""
        database = "" if self.database == EMBEDDED else f", database {self.database}"
        return f"{self.data_dir}{database}"


def installation_of(settings: Settings) -> Installation:
    """The installation that these settings describe."""
    dsn = settings.database.dsn.get_secret_value()
    if not dsn:
        return Installation(settings.data_dir, EMBEDDED)
    address = urlsplit(dsn)
    port = f":{address.port}" if address.port else ""
    return Installation(settings.data_dir, f"{address.hostname or ''}{port}{address.path}")


def records_folder(environ: Mapping[str, str]) -> Path:
    """The folder of the records of this user."""
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    state = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return state / "orchestrator" / "running"


@contextmanager
def recorded(installation: Installation, folder: Path) -> Iterator[None]:
    """Keep a record of the installation until the end of the block. Without a place for it, as for
    a user without home directory, there is none.
    """
    name = hashlib.sha256(bytes(installation.data_dir)).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / name).open("a+b")
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(OSError):
            file.truncate(0)
            file.write(
                orjson.dumps(
                    {
                        "data_dir": str(installation.data_dir),
                        "database": installation.database,
                    }
                )
            )
            file.flush()
        yield
        (folder / name).unlink(missing_ok=True)


def find_running(folder: Path) -> list[Installation]:
    """The installations that run now, by data directory. Removes the records of directories that
    are gone.
    """
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError, ValueError, KeyError):
                installation = _running(path)
                if installation is not None:
                    found.append(installation)
    return sorted(found, key=lambda each: each.data_dir)


def _running(path: Path) -> Installation | None:
    with path.open("rb") as file:
        is_locked = False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            is_locked = True
        record = orjson.loads(file.read())
        data_dir = Path(record["data_dir"])
        if is_locked:
            return Installation(data_dir, record["database"])
        if not data_dir.exists():
            path.unlink()
    return None
