"""Tiles of a pyramid TIFF, served as they are stored: they are not decoded and lose no quality.

Only if the result is exactly that tile: JPEG is requested and stored, the region is one whole tile
of a level, and its samples are those of the answer: gray, RGB or YCbCr with 8 bits, in one plane,
without extra samples or a profile. The file is not trusted: the frame header of each tile must say
the same as the directory, and the tile contains only the segments that a decoder needs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.tiff.directories import LAST_OFFSET, Directory, TagValues
from orchestrator.imaging.tiff.interpretation import JPEG
from orchestrator.imaging.tiff.jpeg_frames import (
    ADOBE,
    APP0,
    DEFINE_TABLES,
    NEEDED_TABLES,
    parse_frame,
    table_markers,
)
from orchestrator.imaging.tiff.pyramid import TiffPicture
from orchestrator.model import Dimensions, SourceKind

_GRAY, _RGB, _YCBCR = 1, 2, 6
_COMPONENTS = {_GRAY: 1, _RGB: 3, _YCBCR: 3}
_MAX_TILE_BYTES = 4 * 1024**2
_MAX_TABLE_BYTES = 64 * 1024
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_HEADS = {_GRAY: _JFIF, _YCBCR: _JFIF, _RGB: _ADOBE_RGB}
"""The JPEG segment for the colour space. In the TIFF it is in the directory, not in the tile."""
_TRANSFORMS = {_GRAY: (None, 0), _YCBCR: (None, 1), _RGB: (None, 0)}
"""Colour transforms of an Adobe segment in the tile that do not contradict the directory."""
_OTHERS = {
    _GRAY: DEFINE_TABLES | {APP0, ADOBE},
    _YCBCR: DEFINE_TABLES | {APP0, ADOBE},
    _RGB: DEFINE_TABLES | {ADOBE},  # a JFIF segment makes decoders convert from YCbCr
}
_SAMPLINGS = {
    _GRAY: frozenset(bytes((h << 4 | v,)) for h in (1, 2) for v in (1, 2)),
    _RGB: frozenset((b"\x11\x11\x11",)),
    _YCBCR: frozenset(bytes((h << 4 | v, 0x11, 0x11)) for h in (1, 2) for v in (1, 2)),
}


ReadBytes = Callable[[int, int], bytes]
"""(number of bytes, offset in the file) -> the bytes; fewer at the end of the file."""


class StoredTileIndex:
    """Where the tiles of one pyramid TIFF are. It holds no file: a caller gives the function that
    reads it.
    """

    def __init__(self, picture: TiffPicture) -> None:
        self._levels = tuple(level.directory for level in picture.levels)
        self.is_usable = picture.orientation == 1 and all(map(_has_plain_samples, self._levels))
        """False if no tile can be served as it is stored."""
        self._tables: dict[int, tuple[bytes, frozenset[int]] | None] = {}

    def find(self, recipe: Recipe) -> tuple[int, int] | None:
        """(level, number of the tile) if the result of `recipe` may be a stored tile."""
        return _find_tile(recipe, self._levels) if self.is_usable else None

    def read_jpeg(self, position: tuple[int, int], read: ReadBytes) -> bytes | None:
        """The tile at `position`; None if it is not a JPEG that can be served. Raises what `read`
        raises.
        """
        n, number = position
        level = self._levels[n]
        size = _read_value(level.sizes, number, read)
        tables = self._read_tables(n, level, read)
        offset = _read_value(level.offsets, number, read)
        if tables is None or not 4 <= size <= _MAX_TILE_BYTES or offset > LAST_OFFSET:
            return None
        tile = read(size, offset)
        photometric = level.samples.photometric
        shared, markers = tables
        if len(tile) < size or not _is_complete_jpeg(tile, level.tile, photometric, markers):
            return None
        return tile[:2] + _HEADS[photometric] + shared + tile[2:]

    def _read_tables(
        self, n: int, level: Directory, read: ReadBytes
    ) -> tuple[bytes, frozenset[int]] | None:
        """(the tables that all tiles of a level share, without their start and end markers; which
        tables these are); None if there are other segments.
        """
        if n not in self._tables:
            count = min(level.tables.count, _MAX_TABLE_BYTES)
            tables = read(count, level.tables.offset) if count else b""
            markers = table_markers(tables) if tables else frozenset[int]()
            self._tables[n] = None if markers is None else (tables[2:-2], markers)
        return self._tables[n]


class StoredTiles:
    """The tiles of one pyramid TIFF. The file stays open until `close`."""

    def __init__(self, path: str, picture: TiffPicture) -> None:
        """Raises FileNotFoundError."""
        self._index = StoredTileIndex(picture)
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read_jpeg(self, recipe: Recipe) -> bytes | None:
        """The result of `recipe` if it is a stored tile, else None."""
        position = self._index.find(recipe)
        return None if position is None else self._index.read_jpeg(position, self._read)

    def _read(self, size: int, offset: int) -> bytes:
        return os.pread(self._file, size, offset)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __del__(self) -> None:
        """Close the file when a cache drops the object."""
        self.close()


def _read_value(values: TagValues, index: int, read: ReadBytes) -> int:
    """One value of a tag; 0 if there is none."""
    size = struct.calcsize(values.code)
    data = read(size, values.offset + index * size)
    if index >= values.count or len(data) < size:
        return 0
    return int(struct.unpack(values.code, data)[0])


def _has_plain_samples(level: Directory) -> bool:
    """True if the samples of a decoded tile are those of the answer."""
    tags = level.samples
    return (
        level.compression == JPEG
        and _COMPONENTS.get(tags.photometric) == tags.count
        and set(tags.bits) == {8}
        and not tags.is_planar
        and not tags.extras
        and not level.profile.count
    )


def _find_tile(recipe: Recipe, levels: tuple[Directory, ...]) -> tuple[int, int] | None:
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
    if n >= len(levels) or levels[0].dimensions != recipe.dimensions:
        return None
    level = levels[n]
    (x, y, w, h), (tile_w, tile_h) = recipe.region, level.tile
    is_one_tile = recipe.size == level.tile and (w, h) == (tile_w << n, tile_h << n)
    if not is_one_tile or x % w or y % h:
        return None
    column, row = x // w, y // h
    if (column + 1) * tile_w > level.dimensions[0] or (row + 1) * tile_h > level.dimensions[1]:
        return None  # the last tile of a row or column is padded
    return n, row * -(-level.dimensions[0] // tile_w) + column


def _is_complete_jpeg(
    tile: bytes, size: Dimensions, photometric: int, shared: frozenset[int]
) -> bool:
    """True for a JPEG with start and end markers, of `size`, whose components are those of the
    photometric interpretation, and that has only allowed segments and, with the `shared` tables,
    all tables.
    """
    frame = parse_frame(tile) if tile[-2:] == b"\xff\xd9" else None
    return (
        frame is not None
        and frame.is_sequential
        and frame.precision == 8
        and frame.dimensions == size
        and frame.sampling in _SAMPLINGS[photometric]
        and frame.adobe_transform in _TRANSFORMS[photometric]
        and frame.others <= _OTHERS[photometric]
        and frame.others | shared >= NEEDED_TABLES
    )
