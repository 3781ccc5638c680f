"""A JPEG2000 file rewritten with its tile-parts sorted by resolution, and a list of them (TLM) in
its header.

Encoders write tile after tile, so the low resolutions lie scattered; the standard lets tile-parts
of different tiles come in any order (ISO/IEC 15444-1, A.4.2). Nothing is coded anew.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Unprocessable
from orchestrator.imaging.jpeg2000.codestream import main_segments
from orchestrator.imaging.jpeg2000.tile_parts import END, TLM, TilePart, listing, walk

_COPY_BYTES = 1024**2


def by_resolution(source: Path, target: Path) -> None:
    """Write `target`, the same picture with low resolutions first.

    Raises Unprocessable when `source` is no complete JP2 file, OSError.
    """
    with source.open("rb") as file, target.open("wb") as out:
        start, segments = main_segments(file)
        first = file.tell() - 2
        try:
            parts = sorted(walk(file, first), key=lambda part: (part.number, part.tile))
            _copy(file, out, 0, start)
            _main_header(out, segments, parts)
            for part in parts:
                _copy(file, out, part.start, part.length)
            out.write(END)
            _mend_box(file, out, start)
        except (struct.error, ValueError) as error:
            raise Unprocessable("The image could not be converted.") from error


def _main_header(out: BinaryIO, segments: list[tuple[int, bytes]], parts: list[TilePart]) -> None:
    out.write(b"\xff\x4f")
    for marker, body in segments:
        if marker != TLM:
            out.write(struct.pack(">HH", marker, len(body) + 2) + body)
    out.write(listing(parts))


def _mend_box(file: BinaryIO, out: BinaryIO, start: int) -> None:
    """Give the box around the codestream its new length; 0 means to the end of the file."""
    file.seek(max(0, start - 8))
    length, kind = struct.unpack(">I4s", file.read(8))
    if start and kind == b"jp2c" and length:
        end = out.seek(0, 2)
        out.seek(start - 8)
        out.write(struct.pack(">I", end - start + 8 if end - start < 2**32 - 8 else 0))
    elif start:
        raise ValueError("a box of a kind we do not write")


def _copy(file: BinaryIO, out: BinaryIO, start: int, length: int) -> None:
    file.seek(start)
    while length:
        chunk = file.read(min(length, _COPY_BYTES))
        if not chunk:
            raise ValueError("the file ends early")
        out.write(chunk)
        length -= len(chunk)
