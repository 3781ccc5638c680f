"""What a JPEG2000 file says of itself before any decoder opens it: size, tiles, decomposition
levels.

Reads the JP2 boxes up to the codestream and the codestream's main header (ISO/IEC 15444-1, annexes
A and I), with every loop and length bounded, so that a header that lies is refused here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Unprocessable
from orchestrator.model import Dimensions

_MAX_BOXES = 256
_MAX_MARKERS = 4096
_MAX_COMPONENTS = 64
_SOC, _SIZ, _COD, _SOT, _SOD = 0xFF4F, 0xFF51, 0xFF52, 0xFF90, 0xFF93


@dataclass(frozen=True, slots=True)
class Codestream:
    """Dimensions of the image and of its codestream tiles in pixels; `levels` is how often it is
    halved.
    """

    dimensions: Dimensions
    tile: Dimensions
    levels: int
    components: int
    bits: int

    @property
    def tiled(self) -> bool:
        """True if the codestream has more than one tile."""
        return self.tile[0] < self.dimensions[0] or self.tile[1] < self.dimensions[1]


def read_codestream(path: Path) -> Codestream:
    """Raises Unprocessable if the headers are not those of a JPEG2000 picture, OSError."""
    with path.open("rb") as file:
        try:
            _seek_codestream(file)
            return _main_header(file)
        except struct.error as error:
            raise Unprocessable("The JPEG2000 file is cut short.") from error


def _seek_codestream(file: BinaryIO) -> None:
    start = file.read(2)
    file.seek(0)
    if start == b"\xff\x4f":
        return
    for _ in range(_MAX_BOXES):
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            header = 16
        if kind == b"jp2c":
            return
        if length < header:
            break
        file.seek(length - header, 1)
    raise Unprocessable("The JPEG2000 file holds no codestream.")


def _main_header(file: BinaryIO) -> Codestream:
    if _marker(file) != _SOC:
        raise Unprocessable("The JPEG2000 file holds no codestream.")
    size: tuple[Dimensions, Dimensions, int, int] | None = None
    levels: int | None = None
    for _ in range(_MAX_MARKERS):
        marker = _marker(file)
        if marker in (_SOT, _SOD):
            break
        (length,) = struct.unpack(">H", file.read(2))
        if length < 2:
            break
        if marker == _SIZ:
            size = _size(file.read(length - 2))
        elif marker == _COD:
            levels = struct.unpack(">BBHBB", file.read(length - 2)[:6])[4]
        else:
            file.seek(length - 2, 1)
    if size is None or levels is None or levels > 32:
        raise Unprocessable("The JPEG2000 file has no usable header.")
    return Codestream(size[0], size[1], levels, size[2], size[3])


def _marker(file: BinaryIO) -> int:
    (marker,) = struct.unpack(">H", file.read(2))
    return int(marker)


def _size(segment: bytes) -> tuple[Dimensions, Dimensions, int, int]:
    values = struct.unpack(">H8IH", segment[:36])
    right, bottom, left, top, tile_w, tile_h, tile_left, tile_top, components = values[1:]
    bits = (segment[36] & 0x7F) + 1 if len(segment) > 36 else 0
    sane = (
        left < right
        and top < bottom
        and tile_w > 0
        and tile_h > 0
        and tile_left <= left < tile_left + tile_w
        and tile_top <= top < tile_top + tile_h
        and 0 < components <= _MAX_COMPONENTS
        and len(segment) >= 36 + 3 * components
        and 0 < bits <= 38
    )
    if not sane:
        raise Unprocessable("The JPEG2000 file has no usable header.")
    width, height = right - left, bottom - top
    tile = (min(tile_w, width), min(tile_h, height))
    return (width, height), tile, components, bits
