"""Makes JPEG2000 files of any kind: codestreams by OpenJPEG's own encoder, boxes and tile-parts by
hand.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.imaging.jpeg2000 import binding

SRGB, GRAY, SYCC = 16, 17, 18


def codestream(
    path: Path, planes: Any, *options: str, bits: int = 8, signed: bool = False
) -> bytes:
    """A bare codestream of `planes` (components, rows, columns), lossless unless `options` of
    opj_compress say otherwise.
    """
    raw, out = path.with_suffix(".raw"), path.with_suffix(".j2k")
    kind = ("i" if signed else "u") + ("1" if bits <= 8 else "2")
    raw.write_bytes(b"".join(np.asarray(plane).astype(f">{kind}").tobytes() for plane in planes))
    height, width = np.asarray(planes[0]).shape
    form = f"{width},{height},{len(planes)},{bits},{'s' if signed else 'u'}"
    command = ["opj_compress", "-i", raw, "-o", out, "-F", form, *options]
    subprocess.run(command, check=True, capture_output=True)
    return out.read_bytes()


def subsampled(
    path: Path, planes: Any, steps: list[tuple[int, int]], area: tuple[int, int, int, int]
) -> bytes:
    """A bare lossless codestream of `area` (left, top, right, bottom) of the reference grid, in one
    tile, whose components have these steps (columns, rows).
    """
    openjpeg = binding.require()
    ffi, lib = openjpeg.ffi, openjpeg.lib
    kinds = ffi.new("opj_image_cmptparm_t[]", len(planes))
    for kind, plane, (dx, dy) in zip(kinds, planes, steps, strict=True):
        kind.dx, kind.dy, kind.prec, kind.bpp = dx, dy, 8, 8
        kind.h, kind.w = plane.shape
    image = lib.opj_image_tile_create(len(planes), kinds, binding.COLOUR_SRGB)
    image.x0, image.y0, image.x1, image.y1 = area
    parameters = openjpeg.encoder_parameters()
    parameters.tcp_numlayers = parameters.cp_disto_alloc = 1
    parameters.numresolution = 2
    codec = lib.opj_create_compress(binding.CODEC_J2K)
    errors = openjpeg.collect_errors(codec)
    out = path.with_suffix(".j2k")
    stream = lib.opj_stream_create_file_stream(str(out).encode(), 2**20, binding.STREAM_WRITE)
    body = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
    errors.check(lib.opj_setup_encoder(codec, parameters, image))
    errors.check(lib.opj_start_compress(codec, image, stream))
    samples = ffi.from_buffer("unsigned char[]", body)
    errors.check(lib.opj_write_tile(codec, 0, samples, len(body), stream))
    errors.check(lib.opj_end_compress(codec, stream))
    lib.opj_stream_destroy(stream)
    lib.opj_destroy_codec(codec)
    lib.opj_image_destroy(image)
    return out.read_bytes()


def decompressed(path: Path, *options: str) -> Any:
    """What opj_decompress makes of a file, as an array of samples."""
    out = path.with_suffix(".opj.png")
    subprocess.run(
        ["opj_decompress", "-i", path, "-o", out, *options], check=True, capture_output=True
    )
    return np.asarray(Image.open(out))


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def colour(space: int, parameters: bytes = b"") -> bytes:
    """A colour box of an enumerated space."""
    return box(b"colr", struct.pack(">BBBI", 1, 0, 0, space), parameters)


def profile(body: bytes, *, restricted: bool = True) -> bytes:
    """A colour box with an ICC profile."""
    return box(b"colr", bytes([2 if restricted else 3, 0, 0]), body)


def definitions(*entries: tuple[int, int, int]) -> bytes:
    """A channel definition box: (channel, type, association) of each."""
    return box(
        b"cdef", struct.pack(">H", len(entries)), *(struct.pack(">HHH", *e) for e in entries)
    )


def palette(rows: Iterable[tuple[int, ...]], bits: int = 8) -> bytes:
    """A palette box, and the mapping of component 0 through all its columns."""
    table = list(rows)
    columns = len(table[0])
    values = b"".join(v.to_bytes((bits + 7) // 8, "big") for row in table for v in row)
    head = struct.pack(">HB", len(table), columns) + bytes([bits - 1]) * columns
    mapping = b"".join(struct.pack(">HBB", 0, 1, n) for n in range(columns))
    return box(b"pclr", head, values) + box(b"cmap", mapping)


def wrap(stream: bytes, *boxes: bytes, brand: bytes = b"jp2 ") -> bytes:
    """A JP2 file of a codestream, with these boxes in its header."""
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    (count,) = struct.unpack_from(">H", stream, 40)
    header = struct.pack(">IIHBBBB", bottom - top, right - left, count, 7, 7, 0, 0)
    return b"".join(
        (
            box(b"jP  ", b"\r\n\x87\n"),
            box(b"ftyp", brand, bytes(4), brand),
            box(b"jp2h", box(b"ihdr", header), *boxes),
            box(b"jp2c", stream),
        )
    )


def tile_parts(stream: bytes) -> tuple[bytes, list[bytes]]:
    """(main header, tile-parts) of a codestream."""
    at = first = stream.index(b"\xff\x90\x00\x0a")
    parts = []
    while stream[at : at + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">I", stream, at + 6)
        parts.append(stream[at : at + length])
        at += length
    return stream[:first], parts


def join(header: bytes, parts: Iterable[bytes], end: bytes = b"\xff\xd9") -> bytes:
    """A codestream of a main header and tile-parts."""
    return header + b"".join(parts) + end


def with_count(part: bytes, count: int) -> bytes:
    """A tile-part whose header says that its tile has `count` tile-parts (0: not said)."""
    return part[:11] + bytes([count]) + part[12:]


def with_length(part: bytes, length: int) -> bytes:
    """A tile-part whose header says another length."""
    return part[:6] + struct.pack(">I", length) + part[10:]
