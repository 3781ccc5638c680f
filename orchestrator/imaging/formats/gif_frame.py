"""Where the first frame of a GIF lies on its canvas, and whether its data has an end code. No pixel
is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

EXTENSION, IMAGE = b"\x21", b"\x2c"
MAX_BLOCKS = 1_000_000
_MAX_CODE_BITS = 12
MAX_REPAIRED_BYTES = 64 * 1024**2
Rectangle = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""


@dataclass(frozen=True, slots=True)
class GifFrame:
    """A frame: its place on the canvas, the bits of its smallest code, the last bytes of
    its data, and the offset in the file of the block that ends them (0 if there is none).
    """

    place: Rectangle
    code_bits: int
    tail: bytes
    end: int

    @property
    def has_end_code(self) -> bool:
        """False if the data certainly has no end code. The code is in the last bits, in any of its
        possible widths, before less than 8 bits of padding.
        """
        bits = int.from_bytes(self.tail, "little")
        count = 8 * len(self.tail)
        code = (1 << self.code_bits) + 1
        return any(
            bits >> (count - padding) == 0
            and bits >> (count - padding - width) & ((1 << width) - 1) == code
            for padding in range(8)
            for width in range(self.code_bits + 1, _MAX_CODE_BITS + 1)
            if padding + width <= count
        )


def read_first_frame(path: Path) -> GifFrame | None:
    """The first frame; None if the blocks before it cannot be followed. Raises OSError."""
    with path.open("rb") as file:
        screen = file.read(13)
        if len(screen) < 13:
            return None
        skip_colours(file, screen[10])
        for _ in range(MAX_BLOCKS):
            kind = file.read(1)
            if kind == IMAGE:
                return read_frame(file)
            if kind != EXTENSION or not file.read(1) or not read_blocks(file)[1]:
                return None
    return None


def with_end_code(path: Path, frame: GifFrame) -> bytes | None:
    """The bytes of the file with one more byte in the data of its first frame, if that has no end
    code; else None. libvips' decoder drops the last code of such data. Raises OSError.
    """
    if frame.has_end_code or not frame.end or path.stat().st_size > MAX_REPAIRED_BYTES:
        return None
    body = path.read_bytes()
    return body[: frame.end] + b"\x01\x00" + body[frame.end :]


def read_frame(file: BinaryIO) -> GifFrame | None:
    """The frame whose block begins before this position; None if its header is not whole."""
    head = file.read(9)
    if len(head) < 9:
        return None
    skip_colours(file, head[8])
    code_bits = file.read(1)
    tail, end = read_blocks(file)
    left, top, width, height = (int.from_bytes(head[n : n + 2], "little") for n in (0, 2, 4, 6))
    return GifFrame((left, top, width, height), code_bits[0] if code_bits else 0, tail, end)


def skip_colours(file: BinaryIO, flags: int) -> None:
    """Skip the colour table that the flags of a screen or frame announce."""
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)


def read_blocks(file: BinaryIO) -> tuple[bytes, int]:
    """(the last bytes of the data blocks, the offset of the empty block after them or 0)."""
    tail = b""
    for _ in range(MAX_BLOCKS):
        length = file.read(1)
        if not length:
            break
        if length == b"\x00":
            return tail, file.tell() - 1
        tail = (tail + file.read(length[0]))[-4:]
    return tail, 0
