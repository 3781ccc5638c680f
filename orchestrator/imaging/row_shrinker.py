"""Shrinks an image while its rows are written, so that its thumbnails need no decode of their own.

The result is at least twice as large as the largest thumbnail on both axes (or as large as the
image), averaged by a power of two. If the result would be too large to keep in memory, there is
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.imaging import colour, encode, vips
from orchestrator.model import Dimensions

_MARGIN = 2
_MAX_PIXELS = 32_000_000
_MAX_SHRINK = 64
"""The height of every strip but the last is a multiple of this."""


class RowShrinker:
    """Receives the strips of an image from the top and makes the small image."""

    def __init__(self, dimensions: Dimensions, sizes: Sequence[Dimensions]) -> None:
        """`dimensions` of the image, and the `sizes` of the thumbnails that will be made of it."""
        smallest = [_MARGIN * max(size[axis] for size in sizes) for axis in (0, 1)]
        shrink = 1
        while shrink < _MAX_SHRINK and all(
            side // (2 * shrink) >= least for side, least in zip(dimensions, smallest, strict=True)
        ):
            shrink *= 2
        self._shrink = shrink
        self._strips: list[Any] | None = []
        if dimensions[0] * dimensions[1] // shrink**2 > _MAX_PIXELS:
            self._strips = None

    def add(self, strip: Any) -> None:
        """Shrink the next rows: 8 or 16 bits, gray or colour, with or without alpha."""
        if self._strips is None:
            return
        small = encode.flatten(colour.to_web(strip))
        if self._shrink > 1:
            across = -(-small.width // self._shrink) * self._shrink
            down = -(-small.height // self._shrink) * self._shrink
            # Rows and columns are padded to a multiple of the factor, so that no pixel is left out.
            small = small.embed(0, 0, across, down, extend="copy")
            small = small.shrink(self._shrink, self._shrink)
        self._strips.append(small.copy_memory())

    def result(self) -> Any | None:
        """The small image, on white. None if it would be too large."""
        if not self._strips:
            return None
        if len(self._strips) == 1:
            return self._strips[0]
        return vips.Image.arrayjoin(self._strips, across=1).crop(
            0, 0, self._strips[0].width, sum(strip.height for strip in self._strips)
        )
