"""Levels of JPEG2000 files, cut by OpenJPEG where that is faster than libvips.

Small levels are decoded whole and kept. For larger levels of an untiled file the decoder is kept,
and the last decoded block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.imaging.jpeg2000.binding import OpenJpeg
from orchestrator.imaging.jpeg2000.reader import Reader
from orchestrator.imaging.open_files import OpenFiles
from orchestrator.imaging.picture_headers import PictureHeaders
from orchestrator.imaging.recipes import Region

SMALL_LEVEL_PIXELS = 1_500_000
"""Levels up to this size are decoded whole, which takes as long as two or three tiles."""
_DECODER_BYTES_PER_PIXEL = 1
"""A decoder keeps the file and, measured, about one byte for each pixel of full scale."""

Cut = Callable[[int, int, int, int], Any]
"""Called with (left, top, width, height); returns the pixels."""


class Jpeg2000Levels:
    """Decodes with one OpenJPEG and keeps what is open in `files`."""

    def __init__(self, openjpeg: OpenJpeg, files: OpenFiles) -> None:
        self._openjpeg = openjpeg
        self._files = files

    def can_cut(self, picture: PictureHeaders, n: int) -> bool:
        """True if OpenJPEG is faster for level `n`. At full scale of a tiled file libvips is as
        fast.
        """
        return picture.is_untiled_codestream or (picture.is_tiled_codestream and n > 0)

    def cut_level(self, picture: PictureHeaders, n: int) -> Cut:
        """A function that cuts level `n`. Raises CodestreamError, and so does the function."""
        width, height = picture.levels[n]
        if width * height <= SMALL_LEVEL_PIXELS:
            image = self._files.get_or_open(
                (*picture.identity, n), lambda: self._decode_level(picture, n)
            )
            return partial(crop, image)
        if picture.is_untiled_codestream:
            return partial(self._cut_from_block, picture, n)
        return partial(self._decode_once, picture, n)

    def decode_block(self, picture: PictureHeaders, n: int, block: Region) -> None:
        """Decode a rectangle of level `n` of an untiled file at once. What is cut from it later
        needs no decoding.

        Does nothing for a small level, which is decoded whole. Raises CodestreamError.
        """
        width, height = picture.levels[n]
        if not picture.is_untiled_codestream or width * height <= SMALL_LEVEL_PIXELS:
            return
        key = (*picture.identity, n, "block")
        self._files.drop(key)
        image = self._open_reader(picture, n).read(*block)
        self._files.get_or_open(key, lambda: ((block, image), block[2] * block[3] * image.bands))

    def _cut_from_block(self, picture: PictureHeaders, n: int, *area: int) -> Any:
        left, top, width, height = area
        decoded = self._files.peek((*picture.identity, n, "block"))
        if decoded is not None:
            (x, y, w, h), image = decoded
            if x <= left and y <= top and left + width <= x + w and top + height <= y + h:
                return crop(image, left - x, top - y, width, height)
        return self._open_reader(picture, n).read(*area)

    def _open_reader(self, picture: PictureHeaders, n: int) -> Reader:
        def open_reader() -> tuple[Reader, int]:
            width, height = picture.levels[0]
            size = picture.identity.size + width * height * _DECODER_BYTES_PER_PIXEL
            return Reader(self._openjpeg, picture.path, n), size

        key = (*picture.identity, n, "reader")
        return self._files.get_or_open(key, open_reader)  # type: ignore[no-any-return]  # entries are of many types

    def _decode_once(self, picture: PictureHeaders, n: int, *area: int) -> Any:
        """An area of a tiled file, decoded by a new decoder: OpenJPEG decodes only one area of a
        tiled file. libvips decodes the tiles one by one and searches the file for each; measured,
        that takes twice as long.
        """
        reader = Reader(self._openjpeg, picture.path, n)
        try:
            return reader.read(*area)
        finally:
            reader.close()

    def _decode_level(self, picture: PictureHeaders, n: int) -> tuple[Any, int]:
        width, height = picture.levels[n]
        image = self._decode_once(picture, n, 0, 0, width, height)
        return image, width * height * image.bands


def crop(image: Any, left: int, top: int, width: int, height: int) -> Any:
    """A rectangle of `image`; `image` itself if that is all of it."""
    if (left, top, width, height) == (0, 0, image.width, image.height):
        return image
    return image.crop(left, top, width, height)
