"""The header of one tile-part, compared with what the list of tile-parts says of it (ISO/IEC
15444-1, A.4.2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.imaging.jpeg2000.coding_style import CHANGES_PACKETS
from orchestrator.imaging.jpeg2000.tile_parts import SOT, TilePart

SOT_BYTES = 12
_SOD = 0xFF93
_MAX_MARKERS = 1024
_HEAD = struct.Struct(">HHHIBB")


class UnsafeParts(Exception):
    """The tile-parts are not as listed or of another style than the main header says. The file must
    be read without its lists.
    """


@dataclass(frozen=True, slots=True)
class PartHeader:
    """(marker, body) of each segment of the header; where the data begins and ends in the file."""

    segments: tuple[tuple[int, bytes], ...]
    data: int
    end: int


def read_part_header(file: BinaryIO, part: TilePart, count: int) -> PartHeader:
    """The header of `part`, which is one of `count` of its tile. Raises UnsafeParts."""
    file.seek(part.start)
    head = file.read(SOT_BYTES)
    expected = _HEAD.pack(SOT, 10, part.tile, part.length, part.number & 255, 0)[:-1]
    if head[:-1] != expected or head[-1] not in (0, count):  # 0: the number is not said
        raise UnsafeParts
    segments: list[tuple[int, bytes]] = []
    at = part.start + SOT_BYTES
    for _ in range(_MAX_MARKERS):
        marker = int.from_bytes(file.read(2), "big")
        if marker == _SOD:
            return PartHeader(tuple(segments), at + 2, part.end)
        length = int.from_bytes(file.read(2), "big")
        at += 2 + length
        if marker < 0xFF00 or length < 2 or at > part.end or marker in CHANGES_PACKETS:
            break
        segments.append((marker, file.read(length - 2)))
    raise UnsafeParts
