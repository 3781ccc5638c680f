"""Pieces of a codestream as one stream that OpenJPEG reads."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from orchestrator.errors import Damaged
from orchestrator.imaging.jpeg2000.codestream import INCOMPLETE
from orchestrator.imaging.jpeg2000.pieces import FileSpan, Piece, length_of
from orchestrator.imaging.open_memory import is_in_memory


class AssembledStream:
    """Pieces of a codestream as one stream of `size` bytes with a position."""

    def __init__(self, descriptor: int, pieces: Sequence[Piece]) -> None:
        """`descriptor` of the file in which the spans are. It must stay open. Raises Damaged if a
        span was not fetched.
        """
        if is_in_memory(descriptor):
            _check_fetched(descriptor, pieces)
        self._descriptor = descriptor
        self._pieces = pieces
        self._starts = list(accumulate(map(length_of, pieces), initial=0))
        self.size = self._starts.pop()
        self._position = 0

    def read_into(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; how many there were, 0 at the end. Raises OSError, and
        EOFError if the file is shorter than it was.
        """
        view = memoryview(buffer).cast("B")
        done = 0
        n = bisect_right(self._starts, self._position) - 1
        while done < len(view) and self._position < self.size:
            piece, inside = self._pieces[n], self._position - self._starts[n]
            count = min(len(view) - done, length_of(piece) - inside)
            target = view[done : done + count]
            if isinstance(piece, bytes):
                target[:] = piece[inside : inside + count]
            elif os.preadv(self._descriptor, [target], piece.start + inside) != count:
                raise EOFError
            done += count
            self._position += count
            n += 1
        return done

    def seek(self, position: int) -> bool:
        """Set the position. False if it is outside the stream."""
        if not 0 <= position <= self.size:
            return False
        self._position = position
        return True

    def skip(self, count: int) -> int:
        """Move on by `count` bytes, at most to the end; by how many, -1 if already there."""
        count = min(count, self.size - self._position)
        self._position += count
        return count or -1


def _check_fetched(descriptor: int, pieces: Sequence[Piece]) -> None:
    """Raises Damaged if a span has bytes that were never written. They would be read as zeros,
    which are valid packets.
    """
    for piece in pieces:
        if isinstance(piece, FileSpan) and piece.length:
            hole = os.lseek(descriptor, piece.start, os.SEEK_HOLE)
            if hole < piece.start + piece.length:
                raise Damaged(INCOMPLETE)
