"""Tiles of a pyramid TIFF, served as they are stored: they are not decoded and lose no quality.

Only if the result is exactly that tile: JPEG is requested and stored, and the region is one whole
tile of a level. The file is not trusted: a tile must begin and end as a JPEG of that size, and
contain only the segments that a decoder needs.
"""

from __future__ import annotations

import os
import struct

from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.tiff_layout import Directory, TagValues, TiffLayout
from orchestrator.model import SourceKind

_JPEG = 7
_GRAY, _RGB, _YCBCR = 1, 2, 6
_MAX_TILE_BYTES = 4 * 1024**2
_MAX_TABLE_BYTES = 64 * 1024
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_HEADS = {_GRAY: _JFIF, _YCBCR: _JFIF, _RGB: _ADOBE_RGB}
"""The JPEG segment for the colour space. In the TIFF it is in the directory, not in the tile."""
_FRAMES = frozenset((0xC0, 0xC1))
_ALLOWED = _FRAMES | frozenset((0xDB, 0xC4, 0xDD, 0xE0, 0xEE))
_SCAN = 0xDA


class StoredTiles:
    """The tiles of one pyramid TIFF. The file stays open until `close`."""

    def __init__(self, path: str, layout: TiffLayout) -> None:
        """Raises FileNotFoundError."""
        self._layout = layout
        self._tables: dict[int, bytes] = {}
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read_jpeg(self, recipe: Recipe) -> bytes | None:
        """The result of `recipe` if it is a stored tile, else None."""
        position = _find_tile(recipe, self._layout)
        if position is None:
            return None
        n, number = position
        level = self._layout.levels[n]
        head = _HEADS.get(level.photometric)
        size = self._read_value(level.sizes, number)
        if head is None or not 4 <= size <= _MAX_TILE_BYTES:
            return None
        tile = os.pread(self._file, size, self._read_value(level.offsets, number))
        if len(tile) < size or not _is_complete_jpeg(tile, level.tile):
            return None
        return tile[:2] + head + self._read_tables(n, level) + tile[2:]

    def _read_tables(self, n: int, level: Directory) -> bytes:
        """The tables that all tiles of a level share, without their start and end markers."""
        if n not in self._tables:
            count = min(level.tables.count, _MAX_TABLE_BYTES)
            tables = os.pread(self._file, count, level.tables.offset) if count else b""
            is_complete = tables[:2] == b"\xff\xd8" and tables[-2:] == b"\xff\xd9"
            self._tables[n] = tables[2:-2] if is_complete else b""
        return self._tables[n]

    def _read_value(self, values: TagValues, index: int) -> int:
        """One value of a tag; 0 if there is none."""
        size = struct.calcsize(values.code)
        data = os.pread(self._file, size, values.offset + index * size)
        if index >= values.count or len(data) < size:
            return 0
        return int(struct.unpack(values.code, data)[0])

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __del__(self) -> None:
        """Close the file when a cache drops the object."""
        self.close()


def _find_tile(recipe: Recipe, layout: TiffLayout) -> tuple[int, int] | None:
    """(level, number of the tile) if the recipe requests exactly one whole stored JPEG tile."""
    is_plain_jpeg = recipe.format == "jpg" and recipe.quality in ("default", "color")
    if (
        not is_plain_jpeg
        or recipe.mirror
        or recipe.rotation % 360
        or recipe.kind is not SourceKind.PYRAMID_TIFF
    ):
        return None
    n = recipe.reduction
    if n >= len(layout.levels) or layout.levels[0].dimensions != recipe.dimensions:
        return None
    level = layout.levels[n]
    (x, y, w, h), (tile_w, tile_h) = recipe.region, level.tile
    is_one_tile = recipe.size == level.tile and (w, h) == (tile_w << n, tile_h << n)
    if level.compression != _JPEG or not is_one_tile or x % w or y % h:
        return None
    column, row = x // w, y // h
    if (column + 1) * tile_w > level.dimensions[0] or (row + 1) * tile_h > level.dimensions[1]:
        return None  # the last tile of a row or column is padded
    return n, row * -(-level.dimensions[0] // tile_w) + column


def _is_complete_jpeg(tile: bytes, size: tuple[int, int]) -> bool:
    """True for a JPEG with start and end markers, of `size`, that has only allowed segments."""
    if tile[:2] != b"\xff\xd8" or tile[-2:] != b"\xff\xd9":
        return False
    offset, has_size = 2, False
    while offset + 9 <= len(tile) and tile[offset] == 0xFF:
        marker, (length,) = tile[offset + 1], struct.unpack_from(">H", tile, offset + 2)
        if marker == _SCAN:
            return has_size
        if marker in _FRAMES:
            has_size = struct.unpack_from(">HH", tile, offset + 5) == (size[1], size[0])
        if marker not in _ALLOWED:
            return False
        offset += 2 + length
    return False
