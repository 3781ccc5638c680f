"""Locks of an object folder, and the changes of its directories that need them.

The locks are files in `=locks`, held with `flock`: they exclude all threads and processes of the
host, and the kernel releases them when a process dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEY_LOCKS = 64
_DIRECTORIES = "folders"


class FolderLocks:
    """The locks of one object folder. The lock for directories is always taken last, so two
    holders cannot wait for each other.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "=locks"

    @contextmanager
    def hold_key(self, key: str) -> Iterator[None]:
        """Exclude other writers of this key, and of the keys that share its lock."""
        digest = hashlib.blake2b(key.encode(), digest_size=2).digest()
        with self._hold(str(int.from_bytes(digest) % _KEY_LOCKS), fcntl.LOCK_EX):
            yield

    def move(self, source: Path, target: Path) -> None:
        """Rename a file. The target's directory is created if it is missing, and `prune` cannot
        remove it before the file is in it.
        """
        try:
            source.rename(target)
        except FileNotFoundError:
            with self._hold(_DIRECTORIES, fcntl.LOCK_SH):
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
            _sync_parents(target.parent, self._root)

    def prune(self, folder: Path) -> None:
        """Remove the directory and those above it, as long as they are empty."""
        with self._hold(_DIRECTORIES, fcntl.LOCK_EX):
            while folder != self._root:
                try:
                    folder.rmdir()
                except OSError:  # not empty, or already removed
                    return
                folder = folder.parent

    @contextmanager
    def _hold(self, name: str, kind: int) -> Iterator[None]:
        path = self._folder / name
        try:
            file = path.open("wb")
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = path.open("wb")
        with file:
            fcntl.flock(file, kind)
            yield


def sync_folder(folder: Path) -> None:
    """Write a directory's entries to the disk; does nothing if it was removed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # its object was deleted again
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_parents(folder: Path, root: Path) -> None:
    while folder != root:
        folder = folder.parent
        sync_folder(folder)
