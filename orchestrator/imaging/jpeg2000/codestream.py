"""The header of a JPEG2000 file, read before a decoder opens it: size, tiles, decomposition levels.

Reads the JP2 boxes up to the codestream, and the main header of the codestream (ISO/IEC 15444-1,
annexes A and I). Every loop and length is bounded, so a header with false values is refused here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Damaged
from orchestrator.model import Dimensions

_MAX_BOXES = 256
_MAX_MARKERS = 4096
_MAX_COMPONENTS = 64
_MAX_HEADER_BYTES = 16 * 1024**2
_PLAIN_SPACES = (16, 17)
"""Enumerated colour spaces of JP2: sRGB and gray."""
_SOC, _SIZ, _COD, _COC, _SOT, _SOD = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93


@dataclass(frozen=True, slots=True)
class Codestream:
    """Dimensions of the image and of its tiles in pixels, number of decomposition `levels`, number
    of components and their bits.
    """

    dimensions: Dimensions
    tile: Dimensions
    levels: int
    components: int
    bits: int
    plain: bool
    """True if its samples are the pixels: image and tiles begin at 0, 0; one or three 8-bit
    components, none subsampled; no palette and no channel definitions.
    """
    progression: int = 0
    """Progression order as in COD. 1 and 2 put resolutions first."""

    @property
    def tiled(self) -> bool:
        """True if the codestream has more than one tile."""
        return self.tile[0] < self.dimensions[0] or self.tile[1] < self.dimensions[1]


def read_codestream(path: Path) -> Codestream:
    """The header of the file at `path`. Raises Damaged if it is no valid JPEG2000 header,
    OSError.
    """
    with path.open("rb") as file:
        return parse_codestream(file)


def parse_codestream(file: BinaryIO) -> Codestream:
    """The header of an open file, or of its first bytes in memory. Raises Damaged."""
    try:
        has_plain_colours = _seek_codestream(file)
        stream = _read_main_header(file)
    except struct.error as error:
        raise Damaged("The JPEG2000 file is incomplete.") from error
    return replace(stream, plain=stream.plain and has_plain_colours)


def read_main_segments(file: BinaryIO) -> tuple[int, list[tuple[int, bytes]]]:
    """The offset of the codestream, and every (marker, body) of its main header. The file is then
    positioned after the marker of the first tile-part. Raises Damaged.
    """
    file.seek(0)
    try:
        _seek_codestream(file)
        start = file.tell()
        if _read_marker(file) != _SOC:
            raise Damaged("The JPEG2000 file contains no codestream.")
        return start, list(_read_segments(file))
    except struct.error as error:
        raise Damaged("The JPEG2000 file is incomplete.") from error


def _seek_codestream(file: BinaryIO) -> bool:
    """Position the file at the codestream. False if the boxes before it define that its samples are
    not the pixels.
    """
    start = file.read(2)
    file.seek(0)
    if start == b"\xff\x4f":
        return True
    plain = True
    for _ in range(_MAX_BOXES):
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            header = 16
        if kind == b"jp2c":
            return plain
        if length < header:
            break
        if kind == b"jp2h" and length <= _MAX_HEADER_BYTES:
            plain = _has_plain_colours(file.read(length - header))
        else:
            file.seek(length - header, 1)
    raise Damaged("The JPEG2000 file contains no codestream.")


def _has_plain_colours(boxes: bytes) -> bool:
    """True if a JP2 header has neither a palette nor channel definitions, and its colour space (or
    profile) is RGB or gray.
    """
    offset, plain = 0, True
    while offset + 8 <= len(boxes):
        length, kind = struct.unpack_from(">I4s", boxes, offset)
        if kind in (b"pclr", b"cmap", b"cdef"):
            plain = False
        if (
            kind == b"colr"
            and length >= 15
            and offset + 15 <= len(boxes)
            and boxes[offset + 8] == 1
        ):
            plain = plain and struct.unpack_from(">I", boxes, offset + 11)[0] in _PLAIN_SPACES
        if length < 8:
            break
        offset += length
    return plain


def _read_main_header(file: BinaryIO) -> Codestream:
    if _read_marker(file) != _SOC:
        raise Damaged("The JPEG2000 file contains no codestream.")
    segments = dict(_read_segments(file))
    if _SIZ not in segments or _COD not in segments:
        raise Damaged("The JPEG2000 file has no valid header.")
    size = _parse_size(segments[_SIZ])
    _, progression, _, _, levels = struct.unpack(">BBHBB", segments[_COD][:6])
    if levels > 32:
        raise Damaged("The JPEG2000 file has no valid header.")
    return replace(
        size, levels=levels, progression=progression, plain=size.plain and _COC not in segments
    )


def _read_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of each segment up to the first tile."""
    for _ in range(_MAX_MARKERS):
        marker = _read_marker(file)
        if marker in (_SOT, _SOD):
            return
        (length,) = struct.unpack(">H", file.read(2))
        if length < 2:
            return
        yield marker, file.read(length - 2)


def _read_marker(file: BinaryIO) -> int:
    (marker,) = struct.unpack(">H", file.read(2))
    return int(marker)


def _parse_size(segment: bytes) -> Codestream:
    """The SIZ segment. Raises Damaged, struct.error."""
    values = struct.unpack(">H8IH", segment[:36])
    right, bottom, left, top, tile_w, tile_h, tile_left, tile_top, components = values[1:]
    samples = segment[36 : 36 + 3 * components]
    is_valid = (
        left < right
        and top < bottom
        and tile_w > 0
        and tile_h > 0
        and tile_left <= left < tile_left + tile_w
        and tile_top <= top < tile_top + tile_h
        and 0 < components <= _MAX_COMPONENTS
        and len(samples) == 3 * components
        and (samples[0] & 0x7F) < 38
    )
    if not is_valid:
        raise Damaged("The JPEG2000 file has no valid header.")
    width, height = right - left, bottom - top
    starts_at_zero = (left, top, tile_left, tile_top) == (0, 0, 0, 0)
    return Codestream(
        dimensions=(width, height),
        tile=(min(tile_w, width), min(tile_h, height)),
        levels=0,
        components=components,
        bits=(samples[0] & 0x7F) + 1,
        plain=starts_at_zero and components in (1, 3) and samples == b"\x07\x01\x01" * components,
    )
