"""The files of uploads that arrive in parts. Everything here blocks: callers use a thread.

An upload is `{id}-{length}.part`, the bytes so far, and `{id}.json`, its record. The size of the
part tells where the client continues. The sum of all lengths is bounded.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from orchestrator.errors import NoRoom, NotFound

MISSING = "There is no such upload. It has expired, or it was cancelled. Start again."
_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"([0-9a-f]{32})-(\d{1,15})\.part")
_LEAST_BYTES = 1024**2
"""A small upload counts as this many bytes: the number of uploads is bounded, too."""
_LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class PartialUpload:
    """An upload of `length` bytes of which the first `offset` are on disk; both are in bytes.
    `expires` is a Unix time. `result` is what the client is answered once the file was accepted.
    """

    id: str
    length: int
    offset: int
    metadata: str
    expires: float
    result: dict[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """True if all bytes are on disk."""
        return self.offset == self.length


class PartialFiles:
    """The files in a folder. `quota` and `floor` are bytes: of all uploads together, and of the
    disk that stay free.
    """

    def __init__(self, folder: Path, *, quota: int, floor: int, expire_after_s: float) -> None:
        self._folder = folder
        self._quota = quota
        self._floor = floor
        self._expire_after_s = expire_after_s

    def create(self, length: int, metadata: str) -> PartialUpload:
        """Begin an upload. Raises NoRoom."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        upload_id = secrets.token_hex(16)
        with _folder_lock(self._folder):
            if self._used() + max(length, _LEAST_BYTES) > self._quota:
                self.sweep()
                if self._used() + max(length, _LEAST_BYTES) > self._quota:
                    raise NoRoom("Too many uploads are unfinished. Try again later.")
            if shutil.disk_usage(self._folder).free - length < self._floor:
                raise NoRoom("There is not enough free disk space for the upload.")
            self.part_path(upload_id, length).touch(mode=0o600)
        self.record(upload_id, length, metadata, None)
        return self.find(upload_id)

    def _used(self) -> int:
        """The bytes that all uploads may have. Read from the names: no file is opened."""
        matches = (_PART.fullmatch(name) for name in os.listdir(self._folder))  # noqa: PTH208
        return sum(max(int(match[2]), _LEAST_BYTES) for match in matches if match)

    def find(self, upload_id: str) -> PartialUpload:
        """The upload; its bytes are on disk. Raises NotFound."""
        if not _ID.fullmatch(upload_id):
            raise NotFound(MISSING)
        try:
            record = orjson.loads(self.json_path(upload_id).read_bytes())
            length, result = record["length"], record["result"]
            if result is not None:
                changed, offset = self.json_path(upload_id).stat().st_mtime, length
            else:
                changed, offset = _durable_size(self.part_path(upload_id, length))
        except FileNotFoundError as error:
            raise NotFound(MISSING) from error
        expires = changed + self._expire_after_s
        return PartialUpload(upload_id, length, offset, record["metadata"], expires, result)

    def record(
        self, upload_id: str, length: int, metadata: str, result: dict[str, Any] | None
    ) -> None:
        """Replace the record of an upload."""
        record = {"length": length, "metadata": metadata, "result": result}
        temporary = self._folder / f"{upload_id}-{secrets.token_hex(4)}.tmp"
        with temporary.open("xb") as file:
            file.write(orjson.dumps(record))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.json_path(upload_id))

    def remove(self, upload_id: str, length: int) -> None:
        """Remove all files of an upload."""
        for path in (
            self.json_path(upload_id),
            self.part_path(upload_id, length),
            self.wanted_path(upload_id),
        ):
            path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove files that did not change for the time of expiry, and that no request has; the
        number of removed files.
        """
        if not self._folder.is_dir():
            return 0
        oldest, removed = time.time() - self._expire_after_s, 0
        # Parts first: the other files of an upload are used as long as its part exists.
        paths = sorted(self._folder.iterdir(), key=lambda path: not path.name.endswith(".part"))
        for path in paths:
            with suppress(FileNotFoundError):
                if path.name == _LOCK_NAME or path.stat().st_mtime > oldest:
                    continue
                if path.name.endswith(".part") or not any(
                    self._folder.glob(f"{path.name[:32]}-*.part")
                ):
                    removed += _remove_unused(path)
        return removed

    def part_path(self, upload_id: str, length: int) -> Path:
        """The file of the bytes."""
        return self._folder / f"{upload_id}-{length}.part"

    def json_path(self, upload_id: str) -> Path:
        """The file of the record."""
        return self._folder / f"{upload_id}.json"

    def wanted_path(self, upload_id: str) -> Path:
        """A file that exists while another request waits for the lock."""
        return self._folder / f"{upload_id}.wanted"


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time count the uploads and add one."""
    lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def open_part(path: Path) -> int:
    """Open the bytes to append to them. Raises NotFound."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(MISSING) from error


def try_lock(file: int) -> bool:
    """True if the lock of the open file is held from now on, until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_part(part: int, buffer: bytearray) -> None:
    """Write and empty the buffer."""
    with memoryview(buffer) as view:
        written = 0
        while written < len(view):
            written += os.write(part, view[written:])
    buffer.clear()


def settle_part(part: int, offset: int, *, is_kept: bool) -> None:
    """Put the bytes on disk, or cut off those behind `offset`."""
    if not is_kept:
        os.ftruncate(part, offset)
    os.fsync(part)


def _durable_size(path: Path) -> tuple[float, int]:
    """(time of the last change, size in bytes) of what is on disk."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        os.fsync(file.fileno())
    return status.st_mtime, status.st_size


def _remove_unused(path: Path) -> int:
    """Remove a file unless its lock is held; the number of removed files."""
    with path.open("rb") as file:
        if not try_lock(file.fileno()):
            return 0
        path.unlink()
    return 1
