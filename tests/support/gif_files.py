"""Writes GIF files of one colour for each frame, with any place on the canvas."""

from __future__ import annotations

import struct
from typing import NamedTuple

PALETTE = ((0, 0, 0), (0, 255, 0), (255, 0, 0), (0, 0, 255))
_CLEAR, _END = 4, 5


class Frame(NamedTuple):
    """A rectangle of one colour (a number in PALETTE); `transparent` is a number or -1."""

    left: int
    top: int
    width: int
    height: int
    colour: int
    transparent: int = -1
    disposal: int = 0


def gif(
    width: int, height: int, *frames: Frame, background: int = 1, end_code: bool = True
) -> bytes:
    """A GIF with a canvas of `width` x `height` pixels, with or without end codes in its data."""
    body = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, background, 0)
    body += bytes(value for colour in PALETTE for value in colour)
    for frame in frames:
        flags = frame.disposal << 2 | (frame.transparent >= 0)
        body += b"\x21\xf9\x04" + bytes((flags, 10, 0, max(0, frame.transparent), 0))
        body += b"\x2c" + struct.pack("<HHHHB", *frame[:4], 0)
        body += _coded(frame.width * frame.height, frame.colour, end_code=end_code)
    return body + b";"


def _coded(count: int, colour: int, *, end_code: bool) -> bytes:
    """`count` pixels in LZW of 3-bit codes: a clear code after every two pixels."""
    codes = [code for n in range(count) for code in ((_CLEAR, colour) if n % 2 == 0 else (colour,))]
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, *([_END] if end_code else [])])
    data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"\x02" + b"".join(bytes((len(block),)) + block for block in blocks) + b"\x00"
