"""Stored tiles of pyramid TIFFs, read on the event loop: only from the page cache, so that it never
waits for a disk (docs/adr/0010-inline-reads.md).

The directories of a file stay in memory, the file itself is opened for each tile. So a replaced
file is noticed with the next tile, and a deleted one takes no disk space.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from orchestrator.imaging.picture_headers import FileIdentity, PictureHeaders
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.tiff.stored_tiles import StoredTileIndex

_MAX_FILES = 2048
"""Of each some kilobytes are kept, whatever its size."""


@dataclass(frozen=True, slots=True)
class TileFile:
    """One state of a file, and its tiles; without `tiles` none of them can be read at once."""

    identity: FileIdentity
    tiles: StoredTileIndex | None


class ReadyTiles:
    """The pyramid TIFFs that a process reads. For the thread of the event loop only."""

    def __init__(self) -> None:
        self._files: LRUCache[str, TileFile] = LRUCache(_MAX_FILES)

    def is_known(self, path: str) -> bool:
        """True if `add` was called for this file, and it was not replaced as far as is known."""
        return path in self._files

    def add(self, file: TileFile) -> None:
        """Read the tiles of this file from now on."""
        self._files[file.identity.path] = file

    def read(
        self, recipe: Recipe, is_current: Callable[[os.stat_result], bool] | None = None
    ) -> bytes | None:
        """The result of `recipe` if it is a stored tile and can be read without waiting, else None.
        With `is_current`, also None if that is false for the file as it is now.
        """
        file = self._files.get(recipe.path)
        position = file.tiles.find(recipe) if file is not None and file.tiles is not None else None
        if file is None or file.tiles is None or position is None:
            return None
        try:
            descriptor = os.open(recipe.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._files.pop(recipe.path, None)
            return None
        try:
            status = os.fstat(descriptor)
            if not _is_same(status, file.identity):
                self._files.pop(recipe.path, None)
                return None
            if is_current is not None and not is_current(status):
                return None
            return file.tiles.read_jpeg(position, lambda n, at: _read_cached(descriptor, n, at))
        except OSError:  # EAGAIN: not in the page cache; EOPNOTSUPP: not on this file system
            return None
        finally:
            os.close(descriptor)


def tile_file_of(picture: PictureHeaders) -> TileFile:
    """What is kept of a picture that a thread has open. Blocking."""
    if picture.tiff is None or not picture.random_access or not has_cached_reads(picture.path):
        return TileFile(picture.identity, None)
    tiles = StoredTileIndex(picture.tiff)
    return TileFile(picture.identity, tiles if tiles.is_usable else None)


def has_cached_reads(path: str) -> bool:
    """True if the file system can read from the page cache only. Blocking. A network file system
    cannot: even opening a file there waits for the network, so that it is done in threads.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.pread(descriptor, 1, 0)  # now it is in the page cache
        _read_cached(descriptor, 1, 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_same(status: os.stat_result, identity: FileIdentity) -> bool:
    found = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found == (identity.inode, identity.mtime_ns, identity.size)


def _read_cached(descriptor: int, size: int, offset: int) -> bytes:
    """The bytes if they are in the page cache. Raises OSError otherwise."""
    body = bytearray(size)
    if os.preadv(descriptor, [body], offset, os.RWF_NOWAIT) < size:
        raise BlockingIOError
    return bytes(body)
