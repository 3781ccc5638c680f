"""Files of a disk cache as bodies of responses: opened for one answer, sent without a copy.

A file is used only if it has exactly the bytes that the head of the response was made for. That is
checked by content when the file is first seen, and by inode, time and size afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.cache.disk.file_names import Product, place
from orchestrator.cache.disk.files import read_cached


class BodyFile:
    """An open file with one body; closed when there are no more references to it."""

    __slots__ = ("fd", "length")

    def __init__(self, fd: int, length: int) -> None:
        self.fd = fd
        self.length = length

    def read(self, start: int = 0) -> bytes:
        """A copy of its bytes from `start`."""
        return os.pread(self.fd, self.length - start, start)

    def __del__(self) -> None:
        """Close the descriptor. What a socket still sends of the file stays in memory."""
        os.close(self.fd)


@dataclass(slots=True)
class CachedBody:
    """The body of a response, which is (or may be) a file of the disk cache."""

    product: Product
    path: str
    """In the cache's folder."""
    length: int
    is_same: Callable[[bytes], bool]
    """True if these bytes are the body."""
    identity: tuple[int, int] = (0, 0)
    """(inode, mtime_ns) of the file that was found to have these bytes."""
    uses: int = 0

    @classmethod
    def of(cls, product: Product, length: int, is_same: Callable[[bytes], bool]) -> CachedBody:
        """The body that `product` names."""
        return cls(product, place(product).path, length, is_same)


class BodyFiles:
    """Opens the files of one cache on the event loop: only those in the page cache, so that sending
    them does not wait for the disk (docs/adr/0010-inline-reads.md).
    """

    def __init__(
        self, root: str, on_use: Callable[[Product, str], None], *, max_bytes: int
    ) -> None:
        """`on_use` records the use of a product and its path. Larger files than `max_bytes` are not
        opened.
        """
        self._root = root
        self._on_use = on_use
        self.max_bytes = max_bytes

    def open(self, body: CachedBody) -> BodyFile | None:
        """The open file, which counts as its use; None if there is none with these bytes, or if it
        is not in the page cache. Does not wait.
        """
        try:
            descriptor = os.open(self._root + body.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        file = BodyFile(descriptor, body.length)
        status = os.fstat(descriptor)
        identity = (status.st_ino, status.st_mtime_ns)
        if status.st_size != body.length:
            return None
        if identity != body.identity:
            content = read_cached(descriptor, body.length)
            if content is None or not body.is_same(content):
                return None
            body.identity = identity
        elif not _is_cached(descriptor, body.length):
            return None
        body.uses += 1
        self._on_use(body.product, body.path)
        return file


def _is_cached(descriptor: int, size: int) -> bool:
    """True if the first and the last byte are in the page cache. The pages between them were read
    and used together with these.
    """
    byte = bytearray(1)
    try:
        os.preadv(descriptor, [byte], 0, os.RWF_NOWAIT)
        os.preadv(descriptor, [byte], size - 1, os.RWF_NOWAIT)
    except OSError:
        return False
    return True
