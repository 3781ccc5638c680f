"""Where the first frame of a GIF lies on its canvas. No pixel is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EXTENSION, _IMAGE = 0x21, 0x2C
_MAX_BLOCKS = 65_536
Rectangle = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""


def first_frame(path: Path) -> Rectangle | None:
    """The rectangle of the first frame; None if the blocks before it cannot be followed. Raises
    OSError.
    """
    with path.open("rb") as file:
        screen = file.read(13)
        if len(screen) < 13:
            return None
        if screen[10] & 0x80:
            file.seek(3 << ((screen[10] & 7) + 1), 1)
        for _ in range(_MAX_BLOCKS):
            kind = file.read(1)
            if kind == bytes((_IMAGE,)):
                place = file.read(8)
                if len(place) < 8:
                    return None
                left, top, width, height = (
                    int.from_bytes(place[at : at + 2], "little") for at in (0, 2, 4, 6)
                )
                return left, top, width, height
            if kind != bytes((_EXTENSION,)) or not file.read(1) or not _skip_blocks(file):
                return None
    return None


def _skip_blocks(file: BinaryIO) -> bool:
    """Skip the data blocks of an extension; False at the end of the file."""
    for _ in range(_MAX_BLOCKS):
        length = file.read(1)
        if not length:
            return False
        if length == b"\x00":
            return True
        file.seek(length[0], 1)
    return False
