"""The layout of a TIFF read from its directories: which are tiles, which are reductions of the
first. No pixels.

libvips 8.14 does not say whether a TIFF is tiled. Everything is bounded: directories, entries,
offsets inside the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.imaging.intervals import Span
from orchestrator.model import Dimensions

MAX_DIRECTORIES = 64
_MAX_ENTRIES = 512
_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 256, 257, 259, 262
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_SUB_IFDS, _JPEG_TABLES = 330, 347
_NUMBER_TAGS = frozenset(
    (_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS)
)
_PLACED_TAGS = frozenset((_TILE_OFFSETS, _TILE_BYTES, _JPEG_TABLES))
_NUMBERS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
"""How many bytes a value of each type has."""


class TiffLayoutError(ValueError):
    """The directories cannot be followed."""


@dataclass(frozen=True, slots=True)
class Array:
    """Where in the file the `count` values of a tag are, each packed as `code`."""

    code: str = "<B"
    count: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Directory:
    """One image of the file: dimensions, tile dimensions ((0, 0): strips), how it is coded, where
    its sub-directories, its tiles, and the tables that its JPEG tiles share are.
    """

    dimensions: Dimensions
    tile: Dimensions
    children: tuple[int, ...] = ()
    compression: int = 0
    photometric: int = 0
    offsets: Array = Array()
    sizes: Array = Array()
    tables: Array = Array()
    places: tuple[Span, ...] = ()
    """Where the directory and the values of all its tags are."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`levels` begins with page 1 and goes on as long as each is tiled and half of the one before,
    rounded either way.
    """

    levels: tuple[Directory, ...]
    subifds: bool
    pages: int
    places: tuple[Span, ...] = ()
    """What a reader of any directory reads: all `Directory.places`, also of what is no level."""


def read_layout(path: Path) -> Layout:
    """Raises TiffLayoutError if there is no directory to read, OSError."""
    with path.open("rb") as file:
        return parse_layout(file)


def parse_layout(file: BinaryIO) -> Layout:
    """The same of an open file."""
    reader = _Reader(file)
    pages = list(reader.chain())
    first = pages[0]
    subs = [reader.directory(offset)[0] for offset in first.children]
    levels = [first]
    for candidate in subs or pages[1:]:
        if (
            not first.tile[0]
            or not candidate.tile[0]
            or not _is_half(candidate.dimensions, levels[-1].dimensions)
        ):
            break
        levels.append(candidate)
    places = tuple(place for directory in (*pages, *subs) for place in directory.places)
    return Layout(tuple(levels), bool(subs), len(pages), places)


def _is_half(small: Dimensions, large: Dimensions) -> bool:
    return all(b // 2 <= a <= -(-b // 2) or a == b == 1 for a, b in zip(small, large, strict=True))


class _Reader:
    """Follows offsets in one file; every read is checked for length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = file.read(16)
        self._order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        if not self._order or len(head) < 8:
            raise TiffLayoutError("no TIFF header")
        (magic,) = struct.unpack(self._order + "H", head[2:4])
        self._big = magic == 43
        if magic not in (42, 43) or (self._big and len(head) < 16):
            raise TiffLayoutError("no TIFF header")
        self._first = struct.unpack(
            self._order + ("Q" if self._big else "I"), head[8:16] if self._big else head[4:8]
        )[0]

    def chain(self) -> Iterator[Directory]:
        """The main directories in order, at least one, at most MAX_DIRECTORIES; a loop ends it."""
        offset, seen = self._first, set[int]()
        while offset and offset not in seen and len(seen) < MAX_DIRECTORIES:
            seen.add(offset)
            try:
                directory, offset = self.directory(offset)
            except TiffLayoutError:
                if len(seen) == 1:
                    raise
                return
            yield directory
        if not seen:
            raise TiffLayoutError("no directory")

    def directory(self, offset: int) -> tuple[Directory, int]:
        """(the directory at `offset`, offset of the next or 0)."""
        (count,) = self._read(offset, "Q" if self._big else "H")
        if not 0 < count <= _MAX_ENTRIES:
            raise TiffLayoutError("directory of no sensible length")
        step, at = (20, offset + 8) if self._big else (12, offset + 2)
        values: dict[int, tuple[int, ...]] = {}
        arrays: dict[int, Array] = {}
        places = [(offset, at + count * step + (8 if self._big else 4))]
        for n in range(count):
            entry = at + n * step
            tag, kind, number = self._read(entry, "HHQ" if self._big else "HHI")
            places += self._elsewhere(entry, _BYTES.get(kind, 0) * number)
            if tag in _NUMBER_TAGS:
                values[tag] = self._values(entry, kind, number)
            elif tag in _PLACED_TAGS:
                arrays[tag] = self._placed(entry, kind, number)
        (following,) = self._read(at + count * step, "Q" if self._big else "I")
        one = {tag: found[0] for tag, found in values.items() if found}
        found = Directory(
            dimensions=(one.get(_WIDTH, 0), one.get(_HEIGHT, 0)),
            tile=(one.get(_TILE_WIDTH, 0), one.get(_TILE_HEIGHT, 0)),
            children=values.get(_SUB_IFDS, ()),
            compression=one.get(_COMPRESSION, 0),
            photometric=one.get(_PHOTOMETRIC, 0),
            offsets=arrays.get(_TILE_OFFSETS, Array()),
            sizes=arrays.get(_TILE_BYTES, Array()),
            tables=arrays.get(_JPEG_TABLES, Array()),
            places=tuple(places),
        )
        return found, following

    def _values(self, entry: int, kind: int, number: int) -> tuple[int, ...]:
        if number > MAX_DIRECTORIES:
            raise TiffLayoutError("more values than can be meant")
        array = self._placed(entry, kind, number)
        return self._read(array.offset, array.code[1:] * number)

    def _placed(self, entry: int, kind: int, number: int) -> Array:
        code = _NUMBERS.get(kind)
        if code is None:
            raise TiffLayoutError("tag of an unexpected type")
        elsewhere = self._elsewhere(entry, struct.calcsize(self._order + code) * number)
        where = elsewhere[0][0] if elsewhere else entry + (12 if self._big else 8)
        return Array(self._order + code, number, where)

    def _elsewhere(self, entry: int, size: int) -> list[Span]:
        """Where the values of a tag are, `size` bytes, if the entry has no room for them."""
        room, where = (8, entry + 12) if self._big else (4, entry + 8)
        if size <= room:
            return []
        (start,) = self._read(where, "Q" if self._big else "I")
        return [(start, start + size)]

    def _read(self, offset: int, layout: str) -> tuple[int, ...]:
        layout = self._order + layout
        size = struct.calcsize(layout)
        if not 0 <= offset < 2**62:
            raise TiffLayoutError("offset outside the file")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) < size:
            raise TiffLayoutError("cut short")
        return struct.unpack(layout, data)
