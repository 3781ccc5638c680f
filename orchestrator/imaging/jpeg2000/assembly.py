"""Assembles the codestream that OpenJPEG decodes: the main header and the tile-parts of some
tiles.

So OpenJPEG sees no boxes, no lists of tile-parts and no other tiles. Each tile is contiguous and
says how many tile-parts it has. Nothing is copied: OpenJPEG reads the spans of the file through
callbacks.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from orchestrator.errors import Damaged
from orchestrator.imaging.jpeg2000.codestream import INCOMPLETE
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout
from orchestrator.imaging.jpeg2000.tile_parts import END_OF_CODESTREAM, SOT, TilePart

_HEADER_BYTES = 12
_MAX_COUNT = 255


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Bytes of the file: offset and number."""

    start: int
    length: int


Piece = bytes | FileSpan


def assemble(layout: Jp2Layout, tiles: Sequence[int], reduction: int) -> list[Piece]:
    """The codestream that has `tiles` at `reduction`. Raises Damaged if a tile-part is missing."""
    pieces: list[Piece] = [layout.stream.main_header()]
    if layout.stream.packs_headers:
        if not layout.index.is_whole:
            raise Damaged(INCOMPLETE)
        every = sorted(
            (part for parts in layout.index.parts.values() for part in parts),
            key=lambda part: part.start,
        )
        for part in every:
            pieces += _write_tile_part(part, len(layout.index.parts[part.tile]))
    else:
        for tile in tiles:
            parts = _parts_of_tile(layout, tile, reduction)
            for part in parts:
                pieces += _write_tile_part(part, len(parts))
    return [*pieces, END_OF_CODESTREAM]


def _parts_of_tile(layout: Jp2Layout, tile: int, reduction: int) -> Sequence[TilePart]:
    """The tile-parts of a tile that are needed at `reduction`."""
    parts = layout.index.parts.get(tile, [])
    needed = layout.stream.levels + 1 - reduction
    if not parts or (not layout.index.is_whole and len(parts) < needed):
        raise Damaged(INCOMPLETE)
    return parts[:needed] if layout.by_resolution else parts


def _write_tile_part(part: TilePart, count: int) -> Iterator[Piece]:
    """The tile-part with a header that says its length and the number of its tile's parts."""
    count = count if count <= _MAX_COUNT else 0
    yield struct.pack(">HHHIBB", SOT, 10, part.tile, part.length, part.number, count)
    yield FileSpan(part.start + _HEADER_BYTES, part.length - _HEADER_BYTES)


def _length_of(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.length


class AssembledStream:
    """Pieces of a codestream as one stream of `size` bytes with a position."""

    def __init__(self, descriptor: int, pieces: Sequence[Piece]) -> None:
        """`descriptor` of the file in which the spans are. It must stay open."""
        self._descriptor = descriptor
        self._pieces = pieces
        self._starts = list(accumulate(map(_length_of, pieces), initial=0))
        self.size = self._starts.pop()
        self._position = 0

    def read_into(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; how many there were, 0 at the end. Raises OSError, and
        EOFError if the file is shorter than it was.
        """
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._position < self.size:
            n = bisect_right(self._starts, self._position) - 1
            piece, inside = self._pieces[n], self._position - self._starts[n]
            count = min(len(view) - done, _length_of(piece) - inside)
            target = view[done : done + count]
            if isinstance(piece, bytes):
                target[:] = piece[inside : inside + count]
            elif os.preadv(self._descriptor, [target], piece.start + inside) != count:
                raise EOFError
            done += count
            self._position += count
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
