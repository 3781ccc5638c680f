"""Tells which workers of this host have died: each worker holds the lock of a file with its name.

The kernel releases the lock of a process that ends in any way. So the jobs of a killed process are
taken from it as soon as the next worker starts on the host, without waiting for the lease. The
lock, not the process number, tells whether a process is alive, so containers can share a folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class DeadWorkers:
    """The folder of one host with the files of its workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def register(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of the worker `name`, which no other worker has or had, for the block."""
        path, lock = await asyncio.to_thread(self._register, name)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(lock)

    async def find(self) -> list[str]:
        """The names of the workers that died and are not forgotten."""
        return await asyncio.to_thread(self._find)

    async def forget(self, names: Sequence[str]) -> None:
        """Remove the files of dead workers, whose jobs were taken from them."""
        for name in names:
            await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    def _register(self, name: str) -> tuple[Path, int]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / name
        # Locked under another name: no other process sees the file unlocked.
        temporary = path.with_name(f".{name}")
        lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        temporary.rename(path)
        return path, lock

    def _find(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if not path.name.startswith(".")]
        return [name for name in names if self._is_dead(self._folder / name)]

    def _is_dead(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            else:
                return True
            finally:
                os.close(lock)
        return False
