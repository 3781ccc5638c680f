"""Advisory file locks (flock): who holds a piece of work or is alive, told by the kernel and not by
a note.

A lock dies with its process, `kill -9` included, and works between containers that share the
folder, where process ids mean nothing. Lock files may be removed while others wait for them: every
taker checks that the file it locked is still the one the path names.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_S, _IMPATIENCE_S = 5.0, 0.05
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.0001, 0.002


def try_lock(path: Path) -> int | None:
    """Take the lock without waiting: a descriptor that holds it until closed, or None while another
    has it.

    Raises OSError when the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if is_same_file(path, descriptor):
            return descriptor
        os.close(descriptor)  # the former holder removed the file we opened: try the new one


def release_and_remove(path: Path, descriptor: int) -> None:
    """End holding the lock and leave no file; those who wait on the removed file notice and make a
    new one.
    """
    with suppress(OSError):
        path.unlink(missing_ok=True)
    os.close(descriptor)


def is_same_file(path: Path, descriptor: int) -> bool:
    """True while `path` names the file that `descriptor` has open."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)


class Mutex:
    """One lock file that is never removed; waiting blocks the thread: never for the event loop.

    A holder that hangs (stopped, or its disk does) must not make everybody hang: the wait is
    bounded, and short while the last one was in vain.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._patience_s = _PATIENCE_S

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for the block. Raises OSError: it cannot be made, or had (TimeoutError)."""
        self._acquire()
        try:
            yield
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _acquire(self) -> None:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while not self._taken():
            if time.monotonic() > deadline:
                self._patience_s = _IMPATIENCE_S
                raise TimeoutError(f"{self._path.name} is held by another process")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)
        self._patience_s = _PATIENCE_S

    def _taken(self) -> bool:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if is_same_file(self._path, self._descriptor):
            return True
        self.close()  # the file was removed by hand: the lock is the new one's
        return False
