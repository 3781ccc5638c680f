"""The header of a JPEG stream inside a TIFF: what the stream itself says of its samples."""

from __future__ import annotations

import struct
from typing import NamedTuple

from orchestrator.model import Dimensions

DEFINE_TABLES = frozenset((0xDB, 0xC4, 0xDD))
NEEDED_TABLES = frozenset((0xDB, 0xC4))
"""Quantisation and Huffman tables. Without them decoders differ in what they do."""
APP0, ADOBE = 0xE0, 0xEE
_BASELINE, _EXTENDED, _LOSSLESS = 0xC0, 0xC1, 0xC3
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_MARKER_AND_LENGTH = struct.Struct(">xBH")
_FRAME = struct.Struct(">xBHBHHB")


class Frame(NamedTuple):
    """A frame header. `sampling` has one byte for each component: four bits horizontal, four bits
    vertical. `others` are the markers of the other segments before the first scan.
    """

    marker: int
    precision: int
    dimensions: Dimensions
    sampling: bytes
    others: frozenset[int]
    adobe_transform: int | None
    """The colour transform that an Adobe segment declares."""

    @property
    def is_lossless(self) -> bool:
        """True for lossless JPEG, which most decoders cannot read."""
        return self.marker == _LOSSLESS

    @property
    def is_sequential(self) -> bool:
        """True for baseline and extended sequential JPEG, coded by Huffman."""
        return self.marker in (_BASELINE, _EXTENDED)


def parse_frame(data: bytes) -> Frame | None:
    """The frame of a JPEG that begins with `data`; None if no valid header and scan are there."""
    if data[:2] != b"\xff\xd8":
        return None
    offset, frame, transform = 2, -1, None
    others: list[int] = []
    while offset + 10 <= len(data) and data[offset] == 0xFF:
        marker, length = _MARKER_AND_LENGTH.unpack_from(data, offset)
        if marker == _SCAN:
            return _read_frame(data, frame, frozenset(others), transform)
        if marker not in _FRAMES:
            others.append(marker)
            if marker == ADOBE and data[offset + 4 : offset + 9] == b"Adobe" and length >= 14:
                transform = data[offset + 15] if offset + 15 < len(data) else None
        elif frame >= 0:
            return None  # two frames
        else:
            frame = offset
        offset += 2 + length
    return None


def _read_frame(
    data: bytes, offset: int, others: frozenset[int], transform: int | None
) -> Frame | None:
    if offset < 0:
        return None
    marker, length, precision, height, width, components = _FRAME.unpack_from(data, offset)
    sampling = data[offset + 11 : offset + 2 + length : 3]
    if len(sampling) != components:
        return None
    return Frame(marker, precision, (width, height), sampling, others, transform)


def table_markers(tables: bytes) -> frozenset[int] | None:
    """The markers of the tables in the JPEG stream `tables`; None if it has other segments, or no
    start and end markers.
    """
    offset, end = 2, len(tables) - 2
    if tables[:2] != b"\xff\xd8" or tables[end:] != b"\xff\xd9":
        return None
    markers: list[int] = []
    while offset + 4 <= end:
        marker, length = _MARKER_AND_LENGTH.unpack_from(tables, offset)
        if tables[offset] != 0xFF or marker not in DEFINE_TABLES:
            return None
        markers.append(marker)
        offset += 2 + length
    return frozenset(markers) if offset == end else None
