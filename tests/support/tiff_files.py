"""Writes TIFF files of every kind, by tifffile or entry by entry, with the pixels that a correct
reader returns.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

_CODES = {1: "B", 2: "s", 3: "H", 4: "I", 7: "B", 11: "f", 12: "d"}
SHORT, LONG, UNDEFINED, REAL = 3, 4, 7, 12
STRIPS, TILES = (273, 279), (324, 325)


def ramps(width: int = 70, height: int = 50, channels: int = 3) -> NDArray[np.float64]:
    """Smooth channels from 0 to 1, (height, width, channels); no two are alike."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    every = [x, y, 1 - x, (x + y) / 2, 1 - y, (1 - x) * y]
    return np.stack(every[:channels], axis=-1)


def integers(values: NDArray[np.float64], bits: int) -> NDArray[Any]:
    """`values` (0 to 1) as unsigned integers of `bits` bits over the full range."""
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return np.rint(values * (2**bits - 1)).astype(kind)


def write(path: Path, array: NDArray[Any], **options: Any) -> Path:
    """One image, written by tifffile; `array` is (height, width, channels)."""
    if options.get("planarconfig") == "separate":
        array = np.moveaxis(array, -1, 0)
    elif array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    tifffile.imwrite(path, array, metadata=None, **options)
    return path


def write_pages(path: Path, pages: Sequence[tuple[NDArray[Any], Mapping[str, Any]]]) -> Path:
    """Several images, each with its options of `TiffWriter.write`."""
    with tifffile.TiffWriter(path) as file:
        for array, options in pages:
            file.write(array, metadata=None, **options)
    return path


def assemble(
    tags: Mapping[int, tuple[int, Any]],
    segments: Sequence[bytes],
    *,
    places: tuple[int, int] = STRIPS,
    has_next: bool = True,
) -> bytes:
    """A file with one directory of `tags` (number: (type, value or values)), which lists `segments`
    as strips or tiles. Without `has_next` it ends before the offset of the next directory.
    """
    body = bytearray(b"II*\0\0\0\0\0")
    offsets = []
    for segment in segments:
        offsets.append(len(body))
        body += segment + b"\0" * (len(segment) % 2)
    listed = {places[0]: (LONG, offsets), places[1]: (LONG, [len(each) for each in segments])}
    entries = []
    for tag, (kind, value) in sorted({**listed, **tags}.items() if segments else tags.items()):
        values = value if isinstance(value, list | tuple | bytes) else [value]
        packed = b"".join(struct.pack("<" + _CODES[kind], each) for each in values)
        if len(packed) > 4:
            place = len(body)
            body += packed + b"\0" * (len(packed) % 2)
            packed = struct.pack("<I", place)
        entries.append(struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    struct.pack_into("<I", body, 4, len(body))
    body += struct.pack("<H", len(entries)) + b"".join(entries)
    return bytes(body + (b"\0" * 4 if has_next else b""))


def basic_tags(
    width: int, height: int, photometric: int, *, bits: Sequence[int] = (8, 8, 8), **more: Any
) -> dict[int, tuple[int, Any]]:
    """The tags of one image in one strip. `more` has `compression`."""
    return {
        256: (SHORT, width),
        257: (SHORT, height),
        258: (SHORT, list(bits)),
        259: (SHORT, more.get("compression", 1)),
        262: (SHORT, photometric),
        277: (SHORT, len(bits)),
        278: (SHORT, height),
        284: (SHORT, 1),
    }


def jpeg_bytes(array: NDArray[np.uint8], **options: Any) -> bytes:
    """A JPEG by Pillow."""
    body = io.BytesIO()
    Image.fromarray(array).save(body, "JPEG", **{"quality": 95, **options})
    return body.getvalue()


def subsampled_ycbcr(
    rgb: NDArray[np.uint8], horizontal: int, vertical: int
) -> tuple[bytes, dict[int, tuple[int, Any]]]:
    """(data units of uncompressed YCbCr, the tags), TIFF 6.0, section 21."""
    height, width = rgb.shape[:2]
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(int)
    padding = ((0, -height % vertical), (0, -width % horizontal), (0, 0))
    ycc = np.pad(ycc, padding, mode="edge")
    down, across = ycc.shape[0] // vertical, ycc.shape[1] // horizontal
    blocks = ycc.reshape(down, vertical, across, horizontal, 3).transpose(0, 2, 1, 3, 4)
    luma = blocks[..., 0].reshape(down, across, -1)
    chroma = np.rint(blocks[..., 1:].mean(axis=(2, 3)))
    data = np.concatenate((luma, chroma), axis=-1).astype(np.uint8).tobytes()
    tags = basic_tags(width, height, 6)
    return data, {**tags, 530: (SHORT, [horizontal, vertical])}
