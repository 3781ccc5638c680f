"""What libvips needs to show every frame of a GIF right: repairs of the file, without decoding.

A file that ends within a frame is refused: libvips would show the frames before it.

- Data without an end code, of any frame (see `gif_frame`).
- A canvas that the first frame does not cover, in a file without transparency: libvips would show
  black there. A frame more, with transparency, makes it keep alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from orchestrator.errors import Damaged
from orchestrator.imaging.formats.gif_frame import (
    EXTENSION,
    IMAGE,
    MAX_BLOCKS,
    MAX_REPAIRED_BYTES,
    GifFrame,
    read_blocks,
    read_frame,
    skip_colours,
)

_GRAPHIC_CONTROL = b"\xf9"
_INCOMPLETE = "The image file is incomplete."
_TRANSPARENT_FRAME = (
    b"\x21\xf9\x04\x01\x00\x00\x00\x00"  # colour 0 is transparent
    b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x80" + bytes(6) + b"\x02\x02\x44\x01\x00"
)
"""A frame of one pixel, with its own colours."""
_END = b";"


class RepairedGif(NamedTuple):
    """The bytes of a file with its repairs, and how many frames were added at its end."""

    body: bytes
    added: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The frames of a file, the offset after the last one, and whether any has transparency."""

    canvas: tuple[int, int]
    frames: tuple[GifFrame, ...]
    end: int
    has_transparency: bool

    @property
    def has_free_area(self) -> bool:
        """True if a part of the canvas has no pixel when the first frame is shown."""
        left, top, width, height = self.frames[0].place
        return bool(left or top) or width < self.canvas[0] or height < self.canvas[1]


def repair(path: Path) -> RepairedGif | None:
    """The file with its repairs; None if it needs none, or is too large to repair.

    Raises Damaged if the file ends before its last frame: libvips would leave out that frame. A
    file that lacks only its end marker is whole. Raises OSError.
    """
    layout = _read_layout(path)
    if path.stat().st_size > MAX_REPAIRED_BYTES:
        return None
    ends = [frame.end for frame in layout.frames if not frame.has_end_code]
    needs_alpha = layout.has_free_area and not layout.has_transparency
    if not ends and not needs_alpha:
        return None
    body = path.read_bytes()
    parts, start = [], 0
    for end in ends:
        parts += [body[start:end], b"\x01\x00"]
        start = end
    if needs_alpha:
        parts += [body[start : layout.end], _TRANSPARENT_FRAME]
        start = layout.end
    return RepairedGif(b"".join([*parts, body[start:]]), int(needs_alpha))


def _read_layout(path: Path) -> _Layout:
    """The layout up to the end marker, or to a block of no known kind. Raises Damaged."""
    with path.open("rb") as file:
        screen = file.read(13)
        if len(screen) < 13:
            raise Damaged(_INCOMPLETE)
        skip_colours(file, screen[10])
        canvas = (int.from_bytes(screen[6:8], "little"), int.from_bytes(screen[8:10], "little"))
        frames, has_transparency, end, is_whole = [], False, file.tell(), False
        for _ in range(MAX_BLOCKS):
            kind = file.read(1)
            if kind == IMAGE:
                frame = read_frame(file)
                is_whole = frame is not None and frame.end > 0
                if frame is not None:
                    frames.append(frame)
                end = file.tell()
            elif kind == EXTENSION:
                has_transparency |= _skip_extension(file)
                is_whole = False  # a frame or the end marker follows
            else:
                is_whole = is_whole or bool(kind)
                break
    if not (frames and is_whole):
        raise Damaged(_INCOMPLETE)
    return _Layout(canvas, tuple(frames), end, has_transparency)


def _skip_extension(file: BinaryIO) -> bool:
    """Skip an extension; True if it gives the next frame a transparent colour."""
    label = file.read(1)
    start = file.tell()
    control = file.read(2)
    file.seek(start)
    read_blocks(file)
    return label == _GRAPHIC_CONTROL and len(control) == 2 and bool(control[1] & 1)
