"""Stops processes with SIGSTOP, as a hung dependency looks from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """The processes do nothing until the end of the block; their sockets stay open."""
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def postgres_pids(data_dir: Path) -> list[int]:
    """The processes of the embedded PostgreSQL below `data_dir`, the first one first."""
    first = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    return [first, *(child.pid for child in psutil.Process(first).children(recursive=True))]
