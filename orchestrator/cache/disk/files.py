"""The files of one disk cache: making, publishing, reading and removing them. Knows no index.

Sizes are allocated blocks, as `du` counts them, folders included. Everything blocks but
`read_cached`.
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
    """Bytes that `size` bytes of content take on disk at the least."""
    return -(-size // BLOCK) * BLOCK


def allocated(found: os.stat_result) -> int:
    """Bytes a file takes; file systems that allocate late are charged by its length."""
    return max(found.st_blocks * 512, rounded(found.st_size))


def read_cached(descriptor: int, size: int) -> bytes | None:
    """The whole file if the page cache has it; None rather than wait for the disk (ADR 0010)."""
    body = bytearray(size)
    try:
        if os.preadv(descriptor, [body], 0, os.RWF_NOWAIT) == size:
            return bytes(body)
    except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: the file system cannot tell
        pass
    return None


def read_whole(path: str) -> bytes | None:
    """The whole file; None when it is gone or empty. Blocking."""
    try:
        return Path(path).read_bytes() or None
    except OSError:
        return None


class Tree:
    """One cache's folder of files."""

    def __init__(self, root: Path, holder: str) -> None:
        """`holder` names this process's temporary files, so that those of the dead can be told."""
        self.root = root
        self.temp = root / TEMP_FOLDER
        self._holder = holder
        self._numbers = itertools.count()

    def prepare(self) -> None:
        """Make the folders that must be there. Raises OSError."""
        self.temp.mkdir(parents=True, exist_ok=True)

    def temp_path(self, extension: str) -> Path:
        """A new name for a temporary file of this process."""
        return self.temp / f"{self._holder}-{next(self._numbers)}.{extension}"

    def write_temp(self, body: bytes, extension: str) -> Path:
        """A new temporary file holding `body`. Raises OSError and then leaves nothing."""
        path = self.temp_path(extension)
        try:
            _write(path, body)
        except FileNotFoundError:  # the folder was removed by hand
            self.prepare()
            _write(path, body)
        return path

    def make_folder(self, place: Place) -> None:
        """The folder a product is renamed into. Raises OSError."""
        folder = self.root / place.folder
        try:
            folder.mkdir()
        except FileExistsError:
            return
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)

    def publish(self, temp: Path, place: Place) -> None:
        """Give a written file its name: from here on readers see it, whole. Raises OSError."""
        temp.replace(self.root / place.path)

    def size(self, place: Place) -> int | None:
        """Bytes allocated to a product's file; None when there is none."""
        try:
            return allocated((self.root / place.path).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def folder_size(self, folder: str) -> int | None:
        """Bytes allocated to a folder itself; None when there is none."""
        try:
            return (self.root / folder).stat().st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, place: Place) -> bool:
        """True if the product's file is not there any more."""
        try:
            (self.root / place.path).unlink(missing_ok=True)
        except NotADirectoryError:
            return True
        except OSError:
            return False
        return True

    def remove_folder(self, folder: str) -> bool:
        """True if the folder was empty and is gone."""
        try:
            (self.root / folder).rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def names(self, asset: str) -> list[Place]:
        """Everything made from one asset that is on disk; `asset` is its hash."""
        try:
            found = list((self.root / asset[:2] / asset).iterdir())
        except OSError:
            return []
        return [place for entry in found if (place := parse(asset, entry.name)) is not None]

    def assets(self) -> Iterator[str]:
        """The hashes of all assets with a folder: a walk, for rebuilding and checking only."""
        for outer in _folders(self.root):
            if len(outer.name) == 2:
                yield from (inner.name for inner in _folders(Path(outer.path)))

    def temporaries(self) -> list[tuple[str, Path]]:
        """(holder, path) of every temporary file there is."""
        with suppress(OSError):
            return [(path.name.partition("-")[0], path) for path in self.temp.iterdir()]
        return []

    def free_bytes(self) -> int:
        """Bytes of the file system that are free for us. Raises OSError."""
        try:
            found = os.statvfs(self.root)
        except FileNotFoundError:  # the folder was removed by hand
            self.prepare()
            found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize


def _folders(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return [entry for entry in found if entry.is_dir(follow_symlinks=False)]
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
