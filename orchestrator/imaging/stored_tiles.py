"""Tiles of a pyramid TIFF handed on as they are stored: no decoding, no second loss.

Only where the answer would be that tile exactly: JPEG asked and stored, on the tile grid of a
level, whole. What a file claims is checked: a tile must begin and end as a JPEG of that size, and
hold nothing but what a decoder needs.
"""

from __future__ import annotations

import os
import struct

from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.tiff_layout import Array, Directory, Layout
from orchestrator.model import SourceKind

_JPEG = 7
_GRAY, _RGB, _YCBCR = 1, 2, 6
_MAX_TILE_BYTES = 4 * 1024**2
_MAX_TABLE_BYTES = 64 * 1024
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_HEADS = {_GRAY: _JFIF, _YCBCR: _JFIF, _RGB: _ADOBE_RGB}
"""What tells a decoder the colours, which the TIFF's own directory said."""
_FRAMES = frozenset((0xC0, 0xC1))
_ALLOWED = _FRAMES | frozenset((0xDB, 0xC4, 0xDD, 0xE0, 0xEE))
_SCAN = 0xDA


class StoredTiles:
    """The tiles of one pyramid TIFF, whose file is kept open."""

    def __init__(self, path: str, layout: Layout) -> None:
        """Raises FileNotFoundError."""
        self._layout = layout
        self._tables: dict[int, bytes] = {}
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def jpeg(self, recipe: Recipe) -> bytes | None:
        """The answer to `recipe` if it is a stored tile, else None."""
        place = _place(recipe, self._layout)
        if place is None:
            return None
        n, number = place
        level = self._layout.levels[n]
        head = _HEADS.get(level.photometric)
        size = self._value(level.sizes, number)
        if head is None or not 4 <= size <= _MAX_TILE_BYTES:
            return None
        tile = os.pread(self._file, size, self._value(level.offsets, number))
        if len(tile) < size or not _is_whole(tile, level.tile):
            return None
        return tile[:2] + head + self._shared(n, level) + tile[2:]

    def _shared(self, n: int, level: Directory) -> bytes:
        """The tables all tiles of a level share, without their own start and end."""
        if n not in self._tables:
            count = min(level.tables.count, _MAX_TABLE_BYTES)
            tables = os.pread(self._file, count, level.tables.offset) if count else b""
            whole = tables[:2] == b"\xff\xd8" and tables[-2:] == b"\xff\xd9"
            self._tables[n] = tables[2:-2] if whole else b""
        return self._tables[n]

    def _value(self, array: Array, index: int) -> int:
        """One value of a tag; 0 if there is none."""
        size = struct.calcsize(array.code)
        data = os.pread(self._file, size, array.offset + index * size)
        if index >= array.count or len(data) < size:
            return 0
        return int(struct.unpack(array.code, data)[0])

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __del__(self) -> None:
        """An LRU drops these without a word."""
        self.close()


def _place(recipe: Recipe, layout: Layout) -> tuple[int, int] | None:
    """(level, number of the tile) if the recipe asks for exactly one whole stored JPEG tile."""
    plain = recipe.format == "jpg" and recipe.quality in ("default", "color")
    if (
        not plain
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
    exact = recipe.size == level.tile and (w, h) == (tile_w << n, tile_h << n)
    if level.compression != _JPEG or not exact or x % w or y % h:
        return None
    column, row = x // w, y // h
    if (column + 1) * tile_w > level.dimensions[0] or (row + 1) * tile_h > level.dimensions[1]:
        return None  # the last of a row is padded
    return n, row * -(-level.dimensions[0] // tile_w) + column


def _is_whole(tile: bytes, size: tuple[int, int]) -> bool:
    """True for a JPEG from start to end, of `size`, with nothing needless in its header."""
    if tile[:2] != b"\xff\xd8" or tile[-2:] != b"\xff\xd9":
        return False
    at, found = 2, False
    while at + 9 <= len(tile) and tile[at] == 0xFF:
        marker, (length,) = tile[at + 1], struct.unpack_from(">H", tile, at + 2)
        if marker == _SCAN:
            return found
        if marker in _FRAMES:
            found = struct.unpack_from(">HH", tile, at + 5) == (size[1], size[0])
        if marker not in _ALLOWED:
            return False
        at += 2 + length
    return False
