"""Bytes as anonymous files in memory (memfd), so that the kernel hands a socket the very pages
(sendfile) and copies nothing.

The one invariant: a file is written once, before anybody knows of it, and its pages live as long
as any socket still sends them; so what a client reads is never what another answer put there. Why
a file for each and not one for all: docs/adr/0018-hot-bodies-are-files-in-memory.md.
"""

from __future__ import annotations

import mmap
import os
import resource
from contextlib import suppress

WORTH_BYTES = 8192
"""Below this a copy costs less than the second system call (measured: even at 4 KiB)."""
FILE_OVERHEAD = 1700
"""Bytes the kernel takes for a file besides its pages: inode, dentry, open file."""
MOST_FILES = 16_384
_SHARE_OF_LIMIT = 4
"""One in so many of the descriptors the process may open; the rest are for connections."""


class MemoryFile:
    """One body; closed when nobody refers to it any more."""

    __slots__ = ("_files", "fd", "length")

    def __init__(self, files: MemoryFiles, fd: int, length: int) -> None:
        self._files = files
        self.fd = fd
        self.length = length

    @property
    def size(self) -> int:
        """Bytes of memory it takes: whole pages, and the kernel's own."""
        return -(-self.length // mmap.PAGESIZE) * mmap.PAGESIZE + FILE_OVERHEAD

    def read(self, start: int = 0) -> bytes:
        """Its bytes from `start`, copied."""
        return os.pread(self.fd, self.length - start, start)

    def __del__(self) -> None:
        """Give the descriptor back."""
        self._files.count -= 1
        os.close(self.fd)


class MemoryFiles:
    """Makes them, at most `most` at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0

    def keep(self, data: bytes) -> MemoryFile | None:
        """`data` as a file; None where it is too small to be worth one, where there are too many,
        or where the system gives none (no memfd, no descriptor, no memory).
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


def affordable() -> int:
    """How many of them this process can have without starving its connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MOST_FILES if soft == resource.RLIM_INFINITY else min(MOST_FILES, soft // _SHARE_OF_LIMIT)
    )
