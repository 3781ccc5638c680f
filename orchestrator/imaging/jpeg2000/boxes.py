"""The boxes of a JP2 or JPX file before its codestream: colour, palette and channels.

Follows ISO/IEC 15444-1, annex I, and for the colour spaces of JPX ISO/IEC 15444-2, annex M. Only
these boxes are read. OpenJPEG never sees them. Every loop and length is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.errors import Damaged, Unsupported

_MAX_BOXES = 256
_MAX_BOX_BYTES = 2**43
"""A file system refuses to seek beyond its largest file, which is 2**44 bytes in ext4."""
_MAX_HEADER_BYTES = 32 * 1024**2
_MAX_PALETTE_ENTRIES = 1024
_BROKEN = "The JPEG2000 file has broken boxes. Use an undamaged copy of the file."
_MISSING = "The JPEG2000 file contains no codestream. Use an undamaged copy of the file."
ENUMERATED, RESTRICTED_PROFILE, ANY_PROFILE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class ColourBox:
    """One colour specification: its method, and the enumerated `space` with its `parameters`, or an
    ICC `profile`.
    """

    method: int
    space: int = 0
    parameters: bytes = b""
    profile: bytes = b""


@dataclass(frozen=True, slots=True)
class PaletteColumn:
    """The values of one channel that a palette makes, and their bits."""

    bits: int
    signed: bool
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChannelDefinition:
    """Type (0 colour, 1 opacity, 2 premultiplied opacity) and association (0 whole image, n the
    n-th colour) of the channel with this number.
    """

    channel: int
    kind: int
    association: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """What the boxes say. A bare codestream has none. `start` is the offset of the codestream."""

    start: int = 0
    end: int = 0
    """Offset after the box of the codestream; 0 if that is the end of the file."""
    colours: tuple[ColourBox, ...] = ()
    palette: tuple[PaletteColumn, ...] = ()
    mapping: tuple[tuple[int, int | None], ...] = ()
    """(component, palette column or None) of each channel; () if the components are the channels.
    """
    definitions: tuple[ChannelDefinition, ...] = ()


def read_boxes(file: BinaryIO) -> Boxes:
    """The boxes of an open file, or of its first bytes in memory. Raises Damaged, Unsupported."""
    file.seek(0)
    if file.read(2) == b"\xff\x4f":
        return Boxes()
    file.seek(0)
    header: list[tuple[bytes, bytes]] = []
    try:
        for _ in range(_MAX_BOXES):
            kind, body, length = _read_box_header(file)
            if kind == b"jp2c":
                return _describe(header, body, 0 if length is None else body + length)
            if kind == b"ftbl":
                raise Unsupported(
                    "JPEG2000 files with a fragmented codestream are not supported. "
                    "Write the file with one codestream."
                )
            if length is None:
                break
            if kind in (b"jp2h", b"jplh") and length <= _MAX_HEADER_BYTES:
                header += _find_header_boxes(kind, file.read(length))
            file.seek(body + length)
    except (struct.error, IndexError) as error:
        raise Damaged(_MISSING if not header else _BROKEN) from error
    raise Damaged(_MISSING)


def _read_box_header(file: BinaryIO) -> tuple[bytes, int, int | None]:
    """(kind, offset of the content, its length; None if it extends to the end of the file)."""
    start = file.tell()
    length, kind = struct.unpack(">I4s", file.read(8))
    if length == 1:
        (length,) = struct.unpack(">Q", file.read(8))
    if length > _MAX_BOX_BYTES:
        raise Damaged(_BROKEN)
    body = file.tell()
    if length and length < body - start:
        if kind == b"jp2c":  # some programs write no usable length of the last box
            return kind, body, None
        raise Damaged(_BROKEN)
    return kind, body, length - (body - start) if length else None


def _find_header_boxes(kind: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes of a JP2 header, or the colour boxes of the first compositing layer of JPX."""
    boxes = list(_split_boxes(body))
    if kind == b"jp2h":
        return boxes
    return [
        box
        for group, content in boxes
        if group == b"cgrp"
        for box in _split_boxes(content)
        if box[0] == b"colr"
    ]


def _split_boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of each box that another box contains."""
    offset = 0
    while offset + 8 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, offset)
        length = length or len(body) - offset
        if length < 8 or offset + length > len(body):
            raise Damaged(_BROKEN)
        yield kind, body[offset + 8 : offset + length]
        offset += length


def _describe(header: list[tuple[bytes, bytes]], start: int, end: int) -> Boxes:
    """Raises Damaged, struct.error, IndexError."""
    first: dict[bytes, bytes] = {}
    for kind, body in header:
        first.setdefault(kind, body)
    palette = _parse_palette(first[b"pclr"]) if b"pclr" in first else ()
    return Boxes(
        start,
        end,
        tuple(_parse_colour(body) for kind, body in header if kind == b"colr"),
        palette,
        _parse_mapping(first.get(b"cmap"), palette) if palette else (),
        _parse_definitions(first[b"cdef"]) if b"cdef" in first else (),
    )


def _parse_colour(body: bytes) -> ColourBox:
    method = body[0]
    if method == ENUMERATED:
        (space,) = struct.unpack_from(">I", body, 3)
        return ColourBox(method, space=space, parameters=body[7:])
    if method in (RESTRICTED_PROFILE, ANY_PROFILE):
        return ColourBox(method, profile=body[3:])
    return ColourBox(method, parameters=body[3:])


def _parse_palette(body: bytes) -> tuple[PaletteColumn, ...]:
    entries, columns = struct.unpack_from(">HB", body)
    if not (0 < entries <= _MAX_PALETTE_ENTRIES and columns):
        raise Damaged(_BROKEN)
    depths = body[3 : 3 + columns]
    sizes = [((depth & 0x7F) + 8) // 8 for depth in depths]
    offset, row = 3 + columns, sum(sizes)
    if len(depths) < columns or offset + entries * row > len(body):
        raise Damaged(_BROKEN)
    result = []
    for depth, size in zip(depths, sizes, strict=True):
        values = tuple(
            int.from_bytes(body[at : at + size], "big", signed=bool(depth & 0x80))
            for at in range(offset, offset + entries * row, row)
        )
        result.append(PaletteColumn((depth & 0x7F) + 1, bool(depth & 0x80), values))
        offset += size
    return tuple(result)


def _parse_mapping(
    body: bytes | None, palette: tuple[PaletteColumn, ...]
) -> tuple[tuple[int, int | None], ...]:
    if body is None:  # the standard requires a mapping; without it, all columns in order
        return tuple((0, column) for column in range(len(palette)))
    mapping: list[tuple[int, int | None]] = []
    for component, kind, column in struct.iter_unpack(">HBB", body[: len(body) // 4 * 4]):
        if kind > 1 or (kind == 1 and column >= len(palette)):
            raise Damaged(_BROKEN)
        mapping.append((component, column if kind == 1 else None))
    return tuple(mapping)


def _parse_definitions(body: bytes) -> tuple[ChannelDefinition, ...]:
    (count,) = struct.unpack_from(">H", body)
    return tuple(
        ChannelDefinition(*struct.unpack_from(">HHH", body, 2 + 6 * n)) for n in range(count)
    )
