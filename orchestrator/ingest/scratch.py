"""Private scratch space of one process: `{folder}/{pid}-{token}/`, with a file lock on
`{pid}-{token}.lock`.

A process that is killed loses the lock, and the next process that starts removes its scratch. No
process reads the scratch of another one. The lock, not the process number, tells whether a process
is alive, so containers can share a folder.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from orchestrator.cleanup import clean_up
from orchestrator.errors import NoRoom, StorageUnavailable

_NO_ROOM = "There is not enough free disk space for an ingest. Free disk space."
_UNUSABLE = "The scratch folder cannot be used. Check that this process may write it."

_HOME_NAME = re.compile(r"\d+-[0-9a-f]{12}")
_REMOVAL_WAITS_S = (0.0, 0.1, 1.0)


class Scratch:
    """Gives out scratch folders. Created by `open`, ended by `close`."""

    def __init__(self, place: Path, floor_bytes: int) -> None:
        self._place = place
        self._floor_bytes = floor_bytes
        self._home: Path | None = None
        self._lock = -1
        self._opening = threading.Lock()

    @classmethod
    async def open(cls, folder: Path, *, floor_bytes: int = 0) -> Scratch:
        """Remove the scratch of dead processes below `folder` and create that of this process.

        `floor_bytes` of the disk always stay free. Never fails: a folder that cannot be created is
        tried again with each use.
        """
        scratch = cls(folder, floor_bytes)
        with suppress(NoRoom, StorageUnavailable):
            await asyncio.to_thread(scratch._open_home)
        return scratch

    @property
    def home(self) -> Path | None:
        """The folder of this process; None if it could not be created yet."""
        return self._home

    @asynccontextmanager
    async def folder(self, expected_bytes: int = 0) -> AsyncIterator[Path]:
        """Create an empty folder for the block; the end of the block removes it with its content.

        Raises NoRoom if the disk has no room for `expected_bytes` above the floor, and if a disk
        becomes full during the block; StorageUnavailable if the folder cannot be created for
        another reason.
        """
        with _full_disk_as_no_room():
            path = await self._create_in_thread(expected_bytes)
            try:
                yield path
            finally:
                await clean_up(_remove, path)

    async def close(self) -> None:
        """Remove everything and release the lock."""
        await asyncio.to_thread(self._close)

    async def check_room(self, expected_bytes: int) -> None:
        """Raise NoRoom if the disk has no room for `expected_bytes` above the floor."""
        await asyncio.to_thread(self._check_room, expected_bytes)

    async def _create_in_thread(self, expected_bytes: int) -> Path:
        creation = asyncio.get_running_loop().run_in_executor(None, self._create, expected_bytes)
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            creation.add_done_callback(_remove_created)  # the thread goes on
            raise

    def _create(self, expected_bytes: int) -> Path:
        home = self._open_home()
        self._check_room(expected_bytes)
        try:
            return Path(mkdtemp(dir=home))
        except OSError as error:
            raise _unusable(error) from error

    def _open_home(self) -> Path:
        with self._opening:
            if self._home is None:
                try:
                    self._home, self._lock = _open(self._place)
                except OSError as error:
                    raise _unusable(error) from error
            return self._home

    def _check_room(self, expected_bytes: int) -> None:
        if shutil.disk_usage(self._open_home()).free - expected_bytes < self._floor_bytes:
            raise NoRoom(_NO_ROOM)

    def _close(self) -> None:
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            _lock_path(self._home).unlink(missing_ok=True)
            os.close(self._lock)


def _remove_created(creation: asyncio.Future[Path]) -> None:
    if not creation.cancelled() and creation.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, _remove, creation.result())


def _remove(folder: Path) -> None:
    """Remove a folder (blocking). A thread of a task that was cancelled may be about to create a
    file in it: then it is not empty at first.
    """
    for wait_s in _REMOVAL_WAITS_S:
        time.sleep(wait_s)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


@contextmanager
def _full_disk_as_no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if _is_full(error):
            raise NoRoom(_NO_ROOM) from error
        raise


def _unusable(error: OSError) -> NoRoom | StorageUnavailable:
    return NoRoom(_NO_ROOM) if _is_full(error) else StorageUnavailable(_UNUSABLE)


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sweep(folder: Path) -> int:
    """Remove the scratch of dead processes (blocking). Returns the number of these processes.
    Folders with other names are left alone: the place may be shared with other programs.
    """
    swept = 0
    homes = [path for path in folder.iterdir() if _HOME_NAME.fullmatch(path.name)]
    for home in [path for path in homes if path.is_dir()]:
        lock = _try_lock(_lock_path(home))
        if lock is None:
            continue
        shutil.rmtree(home, ignore_errors=True)
        _lock_path(home).unlink(missing_ok=True)
        os.close(lock)
        swept += 1
    return swept


def _open(folder: Path) -> tuple[Path, int]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sweep(folder)
    home = folder / f"{os.getpid()}-{secrets.token_hex(6)}"
    lock = _try_lock(_lock_path(home))  # before the folder exists: no sweep sees it unlocked
    if lock is None:
        raise NoRoom("The scratch folder is in use by another process of the same name. Try again.")
    try:
        home.mkdir(mode=0o700)
    except OSError:
        os.close(lock)
        _lock_path(home).unlink(missing_ok=True)
        raise
    return home, lock


def _lock_path(home: Path) -> Path:
    return home.with_name(home.name + ".lock")


def _try_lock(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
