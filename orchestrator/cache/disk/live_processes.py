"""The processes of this host that use a cache: each has a file in one folder and holds its lock.

A lock ends with its process, `kill -9` included. So a process whose file is missing or not locked
has ended.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from orchestrator.cache.locks import is_same_file, try_lock


class LiveProcesses:
    """The files of all processes, and the lock on that of this process (`own`)."""

    def __init__(self, folder: Path) -> None:
        self.own = secrets.token_hex(8)
        self._folder = folder
        self._descriptor = -1

    def register(self) -> None:
        """Hold this process's lock; create its file again if it was removed. Raises OSError."""
        path = self._folder / self.own
        if self._descriptor >= 0 and not is_same_file(path, self._descriptor):
            os.close(self._descriptor)
            self._descriptor = -1
        if self._descriptor < 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = try_lock(path) or -1

    def unregister(self) -> None:
        """Remove this process's file and release its lock."""
        if self._descriptor >= 0:
            with suppress(OSError):  # the folder may have become read-only
                (self._folder / self.own).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def has_ended(self, name: str) -> bool:
        """True if the process of that name has ended; its file is then removed."""
        if name == self.own:
            return False
        path = self._folder / name
        if not path.exists():
            return True
        descriptor = try_lock(path)
        if descriptor is None:
            return False
        path.unlink(missing_ok=True)
        os.close(descriptor)
        return True

    def others_live(self) -> bool:
        """True if another process uses the cache. Removes the files of processes that ended."""
        others = [path.name for path in self._folder.iterdir() if path.name != self.own]
        living = [other for other in others if not self.has_ended(other)]
        return bool(living)
