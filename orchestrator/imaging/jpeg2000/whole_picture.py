"""The whole picture of a JPEG2000 file, for conversion: decoded once, in strips from the top.

Up to 128 MB of pixels are kept in memory. More are written to a scratch file, in the format of
libvips (.v), which can be read in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout, read_whole_layout
from orchestrator.imaging.jpeg2000.reader import Reader

IN_MEMORY_BYTES = 128 * 1024**2
_STRIP_PIXELS = 8_000_000
_MAGIC = b"\xb6\xa6\xf2\x08"
_FORMATS = {"uchar": 0, "ushort": 2}
"""Numbers of the sample formats of libvips."""
_RESOLUTION = 1.0


def load_whole(path: Path, scratch: Path, *, in_memory: int = IN_MEMORY_BYTES) -> Any:
    """The picture at `path` in declared form. Pixels of more than `in_memory` bytes are in the file
    `scratch`, which the caller removes when it has read them.

    Raises Damaged, Unsupported, TooLarge, CodestreamError, FileNotFoundError, and OSError if
    `scratch` cannot be written.
    """
    openjpeg = binding.require()
    layout = read_whole_layout(path)
    reader = Reader(openjpeg, layout, str(path), 0)
    try:
        width, height = reader.dimensions
        plan = layout.header.plan
        if width * height * plan.bands * (2 if plan.is_deep else 1) <= in_memory:
            return reader.read(0, 0, width, height)
        return _spool(reader, layout, scratch)
    finally:
        reader.close()


def _spool(reader: Reader, layout: Jp2Layout, scratch: Path) -> Any:
    strips = _read_strips(reader, layout)
    first = next(strips)
    with scratch.open("wb") as file:
        file.write(_describe(first, reader.dimensions[1]))
        file.write(first.write_to_memory())
        for strip in strips:
            file.write(strip.write_to_memory())
    image = vips.load_scratch(str(scratch)).copy(interpretation=first.interpretation)
    if layout.header.plan.profile:
        vips.attach_profile(image, layout.header.plan.profile)
    return image


def _read_strips(reader: Reader, layout: Jp2Layout) -> Iterator[Any]:
    """The picture from the top, in strips that end where tiles end."""
    width, height = reader.dimensions
    stream = layout.stream
    if stream.high_throughput and not stream.tiled:
        rows = first = height  # only the whole image is decoded rightly
    elif stream.tiled and stream.tile_size[0] < width:
        rows = stream.tile_size[1]
        first = rows - (stream.area[1] - stream.tile_origin[1]) % rows
    else:
        rows = first = max(256, _STRIP_PIXELS // width)
    top = 0
    while top < height:
        count = min(first if top == 0 else rows, height - top)
        yield reader.read(0, top, width, count)
        top += count


def _describe(image: Any, height: int) -> bytes:
    """The 64 bytes before the pixels of a .v file, in the byte order of most machines."""
    form = _FORMATS[image.format]
    header = (image.width, height, image.bands, 0, form, 0, 0, _RESOLUTION, _RESOLUTION)
    return struct.pack("<4s7i2f24x", _MAGIC, *header)
