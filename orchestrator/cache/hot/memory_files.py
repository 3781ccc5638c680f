"""Bodies as anonymous files in memory (memfd): the kernel sends their pages to a socket (sendfile)
without a copy.

The one invariant: a file is written once, before any other code has it, and its pages exist as long
as a socket sends them. So a client never reads the bytes of another response. Why each body has a
file: docs/adr/0018-hot-bodies-are-files-in-memory.md.
"""

from __future__ import annotations

import mmap
import os
import resource
from contextlib import suppress

WORTH_BYTES = 8192
"""A copy of fewer bytes costs less than the second system call (measured: equal at 4 KiB)."""
FILE_OVERHEAD = 1700
"""Bytes that the kernel needs for a file besides its pages: inode, dentry, open file."""
MOST_FILES = 16_384
_PART_OF_LIMIT = 4
"""Memory files use a quarter of the descriptors of the process; the rest are for connections."""


class MemoryFile:
    """One body; closed when there are no more references to it."""

    __slots__ = ("_files", "fd", "length")

    def __init__(self, files: MemoryFiles, fd: int, length: int) -> None:
        self._files = files
        self.fd = fd
        self.length = length

    @property
    def size(self) -> int:
        """Bytes of memory: whole pages, and the kernel's overhead."""
        return -(-self.length // mmap.PAGESIZE) * mmap.PAGESIZE + FILE_OVERHEAD

    def read(self, start: int = 0) -> bytes:
        """A copy of its bytes from `start`."""
        return os.pread(self.fd, self.length - start, start)

    def __del__(self) -> None:
        """Close the descriptor."""
        self._files.count -= 1
        os.close(self.fd)


class MemoryFiles:
    """Creates memory files, at most `most` at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0

    def create(self, data: bytes) -> MemoryFile | None:
        """A file of `data`. None if `data` is too small, if there are too many files, or if the
        system has no memfd, no descriptor or no memory left.
        """
        if len(data) < WORTH_BYTES or self.count >= self._most:
            return None
        try:
            fd = os.memfd_create("hot")
        except OSError:
            return None
        self.count += 1
        file = MemoryFile(self, fd, len(data))
        with suppress(OSError):
            if os.write(fd, data) == len(data):
                return file
        return None


def affordable_files() -> int:
    """The number of memory files that leaves enough descriptors for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else min(MOST_FILES, soft // _PART_OF_LIMIT)
