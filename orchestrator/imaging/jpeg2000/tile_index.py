"""The tile-parts of a whole JPEG2000 file, by tile: read once from their headers, or from the list
in the main header.

A file that lacks a tile or a tile-part, or whose last tile-part is cut, is found here and always in
the same way. No decoder decides that.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.jpeg2000.codestream import (
    INCOMPLETE,
    Codestream,
    levels_in_segment,
)
from orchestrator.imaging.jpeg2000.tile_parts import (
    END_OF_CODESTREAM,
    SOT,
    TilePart,
    parse_tile_part_list,
)

_BROKEN = "The JPEG2000 file is damaged: its tile-parts contradict each other."
_HEADER = struct.Struct(">HHHIBB")
_SHORTEST = _HEADER.size + 2
"""Bytes of a tile-part without data: its header, and the marker of the data."""
_SOD = 0xFF93
_READ_BYTES = 64
_LONGEST_CODING = 20
"""Bytes up to the number of decomposition levels, in any segment that has one, and some more."""
MAX_TILE_PARTS = 2_000_000
_MAX_MARKERS = 1024


@dataclass(slots=True)
class TileIndex:
    """The tile-parts of each tile, in order."""

    parts: dict[int, list[TilePart]] = field(default_factory=dict)
    levels: int = 32
    """The fewest decomposition levels that the header of a tile says."""
    is_whole: bool = True
    """False if a tile or a tile-part is missing. The rest can be decoded at a reduction."""


def list_tile_index(file: BinaryIO, stream: Codestream, box_end: int) -> TileIndex | None:
    """The tile-parts that the main header lists (TLM). None if it has no list of exactly the bytes
    of the file, or packet headers are in the main header. Nothing else of the file is read.
    """
    size = file.seek(0, os.SEEK_END)
    end = min(box_end or size, size)
    try:
        parts = parse_tile_part_list(stream)
    except (struct.error, ValueError):
        return None
    if (
        stream.packs_headers
        or not parts
        or end - parts[-1].end not in (0, len(END_OF_CODESTREAM))
        or any(part.length < _SHORTEST or part.tile >= stream.tile_count for part in parts)
    ):
        return None
    index = TileIndex()
    for part in parts:
        index.parts.setdefault(part.tile, []).append(part)
    return index if len(index.parts) == stream.tile_count else None


def read_tile_index(
    file: BinaryIO, stream: Codestream, box_end: int, *, max_parts: int = MAX_TILE_PARTS
) -> TileIndex:
    """Every tile-part of an open file. `box_end` is the end of the box of the codestream, 0 if that
    is the end of the file.

    Raises Unsupported for more than `max_parts`, Damaged for tile-parts that contradict each other
    or extend past the end of the file.
    """
    index = TileIndex()
    expected: dict[int, int] = {}
    size = file.seek(0, os.SEEK_END)
    start, number_of_parts = stream.first_part, 0
    while True:
        file.seek(start)
        head = file.read(_READ_BYTES)
        if len(head) < _SHORTEST or not head.startswith(b"\xff\x90"):
            break
        _, _, tile, length, number, count = _HEADER.unpack_from(head)
        if not length:
            length = _length_to_end(file, start, box_end or size)
        parts = index.parts.setdefault(tile, [])
        if tile >= stream.tile_count or length < _SHORTEST or number != len(parts):
            raise Damaged(_BROKEN)
        if start + length > size:
            raise Damaged(INCOMPLETE)
        parts.append(TilePart(tile, number, start, length))
        if number == 0:
            index.levels = min(index.levels, _levels_of_tile(file, head, start, stream))
        expected[tile] = max(expected.get(tile, 0), count)
        start += length
        number_of_parts += 1
        if number_of_parts > max_parts:
            raise Unsupported(
                f"JPEG2000 files with more than {max_parts} tile-parts are not supported. "
                "Write the file with larger tiles."
            )
    _check_end(head, start, size, box_end)
    index.is_whole = len(index.parts) == stream.tile_count and all(
        len(parts) >= expected[tile] for tile, parts in index.parts.items()
    )
    return index


def _length_to_end(file: BinaryIO, start: int, end: int) -> int:
    """The length of the last tile-part if its header says 0: up to the end marker."""
    file.seek(max(start, end - len(END_OF_CODESTREAM)))
    if file.read(len(END_OF_CODESTREAM)) != END_OF_CODESTREAM:
        raise Damaged(INCOMPLETE)
    return end - len(END_OF_CODESTREAM) - start


def _check_end(head: bytes, start: int, size: int, box_end: int) -> None:
    """After the last tile-part there must be the end marker, or the end of the file or box. Some
    programs write no end marker.
    """
    if head.startswith(END_OF_CODESTREAM) or start in (size, box_end):
        return
    if size - start < _SHORTEST:
        raise Damaged(INCOMPLETE)
    raise Damaged(_BROKEN)


def _levels_of_tile(file: BinaryIO, head: bytes, start: int, stream: Codestream) -> int:
    """The fewest decomposition levels in the header of a first tile-part; those of the main header
    if it says nothing.
    """
    levels, at = stream.levels, _HEADER.size
    for _ in range(_MAX_MARKERS):
        if len(head) < at + _LONGEST_CODING:
            file.seek(start + at)
            start, head, at = start + at, file.read(_READ_BYTES), 0
        (marker,) = struct.unpack_from(">H", head.ljust(at + 4, b"\0"), at)
        if marker == _SOD:
            return levels
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        if marker < 0xFF00 or marker == SOT or length < 2:
            break
        body = head[at + 4 : at + 2 + length]
        found = levels_in_segment(marker, body, len(stream.components))
        levels = levels if found is None else min(levels, found)
        at += 2 + length
    raise Damaged(_BROKEN)
