"""Advisory file locks (flock). The kernel knows which process holds a lock; no file has to say it.

A lock ends with its process, `kill -9` included, and works between containers that share the
folder, where process ids mean nothing. Lock files may be removed while others wait for them: each
taker checks that the path still names the file it locked.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WAIT_S, _WAIT_AFTER_TIMEOUT_S = 5.0, 0.05
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.0001, 0.002


def try_lock(path: Path) -> int | None:
    """Take the lock without waiting: a descriptor that holds it until it is closed, or None if it
    is held elsewhere.

    Raises OSError when the file cannot be created.
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
        os.close(descriptor)  # the last holder removed this file: try the new one


def release_and_remove(path: Path, descriptor: int) -> None:
    """Release the lock and remove its file. Waiters detect that the file was removed, and create a
    new one.
    """
    with suppress(OSError):
        path.unlink(missing_ok=True)
    os.close(descriptor)


def is_same_file(path: Path, descriptor: int) -> bool:
    """True if `path` names the open file of `descriptor`."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev)


class Mutex:
    """One lock file that is never removed. Waiting blocks the thread, so never use it on the event
    loop.

    If the holder hangs (stopped, or its disk hangs), other processes must not hang too: the wait is
    bounded, and short after a wait that timed out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._wait_s = _WAIT_S

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock during the block. Raises OSError if the file cannot be created,
        TimeoutError if the lock is held elsewhere.
        """
        self._acquire()
        try:
            yield
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _acquire(self) -> None:
        deadline = time.monotonic() + self._wait_s
        pause_s = _FIRST_PAUSE_S
        while not self._try_acquire():
            if time.monotonic() > deadline:
                self._wait_s = _WAIT_AFTER_TIMEOUT_S
                raise TimeoutError(f"{self._path.name} is held by another process")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)
        self._wait_s = _WAIT_S

    def _try_acquire(self) -> bool:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if is_same_file(self._path, self._descriptor):
            return True
        self.close()  # the file was deleted externally: the lock is that of the new file
        return False
