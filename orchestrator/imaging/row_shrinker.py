"""A picture made small while its rows pass by, so that its thumbnails need no decode of their own.

What is kept is at least twice the largest thumbnail on both axes (or the picture itself), averaged
by a power of two; where that would be large, nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.imaging import colour, encode, vips
from orchestrator.model import Dimensions

_MARGIN = 2
_MOST_PIXELS = 32_000_000
_MOST_SHRINK = 64
"""Strips are at least this high, and a multiple of it, but for the last."""


class Overview:
    """Takes strips from the top, gives the small picture."""

    def __init__(self, dimensions: Dimensions, sizes: Sequence[Dimensions]) -> None:
        """`sizes`: the thumbnails that will be made of it, of a picture of `dimensions`."""
        wanted = [_MARGIN * max(size[axis] for size in sizes) for axis in (0, 1)]
        shrink = 1
        while shrink < _MOST_SHRINK and all(
            side // (2 * shrink) >= least for side, least in zip(dimensions, wanted, strict=True)
        ):
            shrink *= 2
        self._shrink = shrink
        self._strips: list[Any] | None = []
        if dimensions[0] * dimensions[1] // shrink**2 > _MOST_PIXELS:
            self._strips = None

    def add(self, strip: Any) -> None:
        """The next rows: 8 or 16 bits, gray or colour, with or without transparency."""
        if self._strips is None:
            return
        small = encode.flatten(colour.to_web(strip))
        if self._shrink > 1:
            across = -(-small.width // self._shrink) * self._shrink
            down = -(-small.height // self._shrink) * self._shrink
            # Rows and columns are made up to a whole number, so that no pixel is left out.
            small = small.embed(0, 0, across, down, extend="copy")
            small = small.shrink(self._shrink, self._shrink)
        self._strips.append(small.copy_memory())

    def image(self) -> Any | None:
        """The small picture, on white; None when it was not kept."""
        if not self._strips:
            return None
        if len(self._strips) == 1:
            return self._strips[0]
        return vips.Image.arrayjoin(self._strips, across=1).crop(
            0, 0, self._strips[0].width, sum(strip.height for strip in self._strips)
        )
