"""Reads files of a disk cache, without the index, and only those that are whole."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from orchestrator.cache.disk.entries import Entries
from orchestrator.cache.disk.file_names import place_of_path
from orchestrator.cache.disk.files import read_cached, read_whole
from orchestrator.cache.disk.index_thread import IndexThread


class ProductReader:
    """Reads the files of one cache. A file that a power cut may have damaged is removed."""

    def __init__(
        self, root: Path, thread: IndexThread, entries: Entries, *, inline_read: int
    ) -> None:
        """Files of up to `inline_read` bytes that are in the page cache are read without a
        thread.
        """
        self._root = f"{root}/"
        self._thread = thread
        self._index = thread.writer.ledger.index
        self._entries = entries
        self._inline_read = inline_read

    async def read(self, path: str) -> bytes:
        """The bytes of the file at `path` in the cache; b"" if there is none."""
        body = self.read_cached(path)
        if body is None:
            body = await asyncio.to_thread(read_whole, self._root + path)
        return body or b""

    def find(self, path: str) -> Path | None:
        """The file at `path` in the cache, if it exists and is whole."""
        full = Path(self._root + path)
        try:
            status = full.stat()
        except OSError:
            return None
        return full if self._is_trusted(status, path) else None

    def read_cached(self, path: str) -> bytes | None:
        """The bytes; b"" for a miss; None if a thread has to read them (ADR 10). Does not wait."""
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            status = os.fstat(descriptor)
            if not self._is_trusted(status, path):
                return b""
            if status.st_size > self._inline_read:
                return None
            return read_cached(descriptor, status.st_size)
        finally:
            os.close(descriptor)

    def _is_trusted(self, status: os.stat_result, path: str) -> bool:
        if self._index.is_trusted(status):
            return True
        self._thread.call(lambda: self._entries.remove_damaged([place_of_path(path)]))
        return False
