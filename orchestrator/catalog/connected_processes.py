"""The processes that use the database, as the database itself lists them.

Each process has one connection that listens for changes. Its name says what the process is, so the
list needs no rows that a killed process would leave.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from orchestrator.catalog.connection import Pool

_NAME = re.compile(r"orchestrator (\S+) (\S+) ([0-9]+) (\S*)")
_MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names."""


@dataclass(frozen=True, slots=True)
class ConnectedProcess:
    """A process that listens for changes; `since` is when its connection was opened."""

    role: str
    """all, serve, housekeeping or worker."""
    release: str
    pid: int
    host: str
    since: datetime


class ConnectedProcesses:
    """Lists the processes of all hosts that share the database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self) -> list[ConnectedProcess]:
        """The processes, those of one host together. Raises CatalogUnavailable."""
        rows = await self._pool.fetch(
            """SELECT application_name, backend_start FROM pg_stat_activity
               WHERE datname = current_database() AND application_name LIKE 'orchestrator %'"""
        )
        found = [
            ConnectedProcess(match[1], match[2], int(match[3]), match[4], row["backend_start"])
            for row in rows
            if (match := _NAME.fullmatch(row["application_name"]))
        ]
        return sorted(found, key=lambda each: (each.host, each.role, each.pid))


def listener_name(role: str) -> str:
    """The name of the listening connection of this process."""
    name = f"orchestrator {role} {version('orchestrator')} {os.getpid()} {socket.gethostname()}"
    return name[:_MAX_NAME_BYTES]
