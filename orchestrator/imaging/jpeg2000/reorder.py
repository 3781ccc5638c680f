"""Rewrites a JPEG2000 file with its tile-parts sorted by resolution, and lists them in the header
(TLM).

Encoders write tile after tile, so the low resolutions are scattered over the file. The standard
allows tile-parts of different tiles in any order (ISO/IEC 15444-1, A.4.2). No sample is encoded
again.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Damaged
from orchestrator.imaging.jpeg2000.boxes import read_boxes
from orchestrator.imaging.jpeg2000.codestream import SOC, Codestream, parse_codestream
from orchestrator.imaging.jpeg2000.tile_parts import (
    END_OF_CODESTREAM,
    TLM,
    TilePart,
    build_tile_part_list,
    walk_tile_parts,
)

_COPY_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class BetterTiles:
    """Tiles that replace those of the source: a file, and where their tile-parts are in it."""

    path: Path
    parts: dict[int, list[TilePart]]


def sort_by_resolution(source: Path, target: Path, better: BetterTiles | None = None) -> None:
    """Write the image of `source` to `target` with low resolutions first, some tiles from `better`.

    Raises Damaged if `source` is not a complete JP2 file, OSError.
    """
    replaced = better.parts if better else {}
    with ExitStack() as files:
        file, out = files.enter_context(source.open("rb")), files.enter_context(target.open("wb"))
        other = files.enter_context(better.path.open("rb")) if better and replaced else file
        stream = parse_codestream(file, read_boxes(file).start)
        try:
            walked = walk_tile_parts(file, stream.first_part)
            parts = [part for part in walked if part.tile not in replaced]
            parts += [part for tile in replaced.values() for part in tile]
            parts.sort(key=lambda part: (part.number, part.tile))
            _copy(file, out, 0, stream.start)
            _write_main_header(out, stream, parts)
            for part in parts:
                _copy(other if part.tile in replaced else file, out, part.start, part.length)
            out.write(END_OF_CODESTREAM)
            _correct_box_length(file, out, stream.start)
        except (struct.error, ValueError) as error:
            raise Damaged("The image could not be converted.") from error


def _write_main_header(out: BinaryIO, stream: Codestream, parts: list[TilePart]) -> None:
    out.write(SOC)
    for marker, body in stream.segments:
        if marker != TLM:
            out.write(struct.pack(">HH", marker, len(body) + 2) + body)
    out.write(build_tile_part_list(parts))


def _correct_box_length(file: BinaryIO, out: BinaryIO, start: int) -> None:
    """Give the box that contains the codestream its new length; 0 means to the end of the file."""
    file.seek(max(0, start - 8))
    length, kind = struct.unpack(">I4s", file.read(8))
    if start and kind == b"jp2c" and length:
        end = out.seek(0, 2)
        out.seek(start - 8)
        out.write(struct.pack(">I", end - start + 8 if end - start < 2**32 - 8 else 0))
    elif start:
        raise ValueError("a box of a kind that our encoder does not write")


def _copy(file: BinaryIO, out: BinaryIO, start: int, length: int) -> None:
    file.seek(start)
    while length:
        chunk = file.read(min(length, _COPY_BYTES))
        if not chunk:
            raise ValueError("the file ends early")
        out.write(chunk)
        length -= len(chunk)
