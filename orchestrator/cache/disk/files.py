"""The files of one disk cache: writes, publishes, reads and removes them. Knows nothing of the
index.

Sizes are allocated blocks, as `du` counts them, folders included. All functions except
`read_cached` block.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.cache.disk.file_names import TEMP_FOLDER, Place, parse

BLOCK = 4096


def rounded(size: int) -> int:
    """The least bytes on disk for a file of `size` bytes."""
    return -(-size // BLOCK) * BLOCK


def allocated(status: os.stat_result) -> int:
    """The bytes of a file on disk; computed from its length where the file system allocates
    late.
    """
    return max(status.st_blocks * 512, rounded(status.st_size))


def read_cached(descriptor: int, size: int) -> bytes | None:
    """The whole file if it is in the page cache, else None: never waits for the disk (ADR 10)."""
    body = bytearray(size)
    try:
        if os.preadv(descriptor, [body], 0, os.RWF_NOWAIT) == size:
            return bytes(body)
    except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: not supported by the file system
        pass
    return None


def read_whole(path: str) -> bytes | None:
    """The whole file; None if it is missing or empty. Blocking."""
    try:
        return Path(path).read_bytes() or None
    except OSError:
        return None


class Tree:
    """One cache's folder of files."""

    def __init__(self, root: Path, holder: str) -> None:
        """`holder` begins the names of this process's temporary files, so that other processes know
        whose they are.
        """
        self.root = root
        self.temp = root / TEMP_FOLDER
        self._holder = holder
        self._numbers = itertools.count()

    def prepare(self) -> None:
        """Create the cache's folders. Raises OSError."""
        self.temp.mkdir(parents=True, exist_ok=True)

    def temp_path(self, extension: str) -> Path:
        """A new name for a temporary file of this process."""
        return self.temp / f"{self._holder}-{next(self._numbers)}.{extension}"

    def write_temp(self, body: bytes, extension: str) -> Path:
        """Write `body` to a new temporary file. Raises OSError; then no file is left."""
        path = self.temp_path(extension)
        try:
            _write(path, body)
        except FileNotFoundError:  # the folder was deleted externally
            self.prepare()
            _write(path, body)
        return path

    def make_folder(self, place: Place) -> None:
        """Create the folder for a product. Raises OSError."""
        folder = self.root / place.folder
        try:
            folder.mkdir()
        except FileExistsError:
            return
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)

    def publish(self, temp: Path, place: Place) -> None:
        """Rename a written file to its name: from then on readers see it, whole. Raises OSError."""
        temp.replace(self.root / place.path)

    def size(self, place: Place) -> int | None:
        """Bytes allocated to a product's file; None if it is missing."""
        try:
            return allocated((self.root / place.path).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def folder_size(self, folder: str) -> int | None:
        """Bytes allocated to a folder itself; None if it is missing."""
        try:
            return (self.root / folder).stat().st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, place: Place) -> bool:
        """Remove a product's file. True if there is no such file afterwards."""
        try:
            (self.root / place.path).unlink(missing_ok=True)
        except NotADirectoryError:
            return True
        except OSError:
            return False
        return True

    def remove_folder(self, folder: str) -> bool:
        """Remove a folder if it is empty. True if there is no such folder afterwards."""
        try:
            (self.root / folder).rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def names(self, asset: str) -> list[Place]:
        """The files of one asset that are on disk; `asset` is its hash."""
        try:
            paths = list((self.root / asset[:2] / asset).iterdir())
        except OSError:
            return []
        return [place for entry in paths if (place := parse(asset, entry.name)) is not None]

    def assets(self) -> Iterator[str]:
        """The hashes of all assets with a folder. Walks the tree: only for a rebuild or a check."""
        for outer in _folders(self.root):
            if len(outer.name) == 2:
                yield from (inner.name for inner in _folders(Path(outer.path)))

    def temporaries(self) -> list[tuple[str, Path]]:
        """(holder, path) of every temporary file."""
        with suppress(OSError):
            return [(path.name.partition("-")[0], path) for path in self.temp.iterdir()]
        return []

    def free_bytes(self) -> int:
        """Free bytes of the file system for a process without privileges. Raises OSError."""
        try:
            status = os.statvfs(self.root)
        except FileNotFoundError:  # the folder was deleted externally
            self.prepare()
            status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize


def _folders(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _write(path: Path, body: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
