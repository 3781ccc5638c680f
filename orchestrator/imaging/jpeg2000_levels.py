"""Levels of JPEG2000 files, cut by OpenJPEG.

Small levels are decoded whole and kept. For larger levels of an untiled file the decoder is kept,
and the last decoded block. Where the decoder has no suitable resolution, a finer one is averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.imaging.jpeg2000.binding import OpenJpeg
from orchestrator.imaging.jpeg2000.channels import average, crop
from orchestrator.imaging.jpeg2000.jp2_layout import SMALL_LEVEL_PIXELS, Jp2Layout, read_layout
from orchestrator.imaging.jpeg2000.reader import Reader
from orchestrator.imaging.open_files import OpenFiles
from orchestrator.imaging.picture_headers import PictureHeaders
from orchestrator.imaging.recipes import Region

_DECODER_BYTES_PER_PIXEL = 1
"""A decoder keeps the file and, measured, about one byte for each pixel of full scale."""
_TILED_READER_BYTES = 4096
_STRIP_PIXELS = 8_000_000
"""Pixels of a finer level that are averaged at once."""

Cut = Callable[[int, int, int, int], Any]
"""Called with (left, top, width, height); returns the pixels."""


class Jpeg2000Levels:
    """Decodes with one OpenJPEG and keeps what is open in `files`."""

    def __init__(self, openjpeg: OpenJpeg, files: OpenFiles) -> None:
        self._openjpeg = openjpeg
        self._files = files

    def cut_level(self, picture: PictureHeaders, n: int) -> Cut:
        """A function that cuts level `n`. Raises CodestreamError, Damaged, TooLarge, and so does
        the function.
        """
        layout, (width, height) = _layout_of(picture), picture.levels[n]
        if width * height <= SMALL_LEVEL_PIXELS or layout.is_indivisible:
            image = self._files.get_or_open(
                (*picture.identity, n), lambda: self._decode_level(picture, n)
            )
            return lambda *region: crop(image, region)
        if n > layout.header.base_reduction(n):
            return partial(self._cut_averaged, picture, n)
        return partial(self._cut_from_block, picture, n)

    def decode_block(self, picture: PictureHeaders, n: int, block: Region) -> None:
        """Decode a rectangle of level `n` of an untiled file at once. What is cut from it later
        needs no decoding.

        Does nothing for a level that is decoded whole or averaged. Raises CodestreamError.
        """
        layout, (width, height) = _layout_of(picture), picture.levels[n]
        if (
            layout.stream.tiled
            or width * height <= SMALL_LEVEL_PIXELS
            or layout.is_indivisible
            or n > layout.header.base_reduction(n)
        ):
            return
        key = (*picture.identity, n, "block")
        self._files.drop(key)
        image = self._open_reader(picture, n).read(*block)
        self._files.get_or_open(key, lambda: ((block, image), image_bytes(image)))

    def _cut_from_block(self, picture: PictureHeaders, n: int, *area: int) -> Any:
        left, top, width, height = area
        decoded = self._files.peek((*picture.identity, n, "block"))
        if decoded is not None:
            (x, y, w, h), image = decoded
            if x <= left and y <= top and left + width <= x + w and top + height <= y + h:
                return crop(image, (left - x, top - y, width, height))
        return self._open_reader(picture, n).read(*area)

    def _cut_averaged(self, picture: PictureHeaders, n: int, *area: int) -> Any:
        """An area of a level that the file does not have: blocks of pixels of the coarsest level
        that it has, averaged. Strips bound the memory.
        """
        left, top, width, height = area
        base = _layout_of(picture).header.base_reduction(n)
        factor, full = 1 << (n - base), picture.levels[base]
        reader = self._open_reader(picture, base)
        rows = max(1, _STRIP_PIXELS // (width * factor * factor))
        strips = []
        for y in range(top, top + height, rows):
            count = min(rows, top + height - y)
            x0, y0 = left * factor, y * factor
            x1, y1 = min(full[0], (left + width) * factor), min(full[1], (y + count) * factor)
            strip = reader.read(x0, y0, x1 - x0, y1 - y0)
            # The last pixels are repeated, so that each block is full.
            strip = strip.embed(0, 0, width * factor, count * factor, extend="copy")
            strips.append(average(strip, factor).copy_memory())
        joined = strips[0]
        for strip in strips[1:]:
            joined = joined.join(strip, "vertical")
        return joined.copy_memory()

    def _open_reader(self, picture: PictureHeaders, n: int) -> Reader:
        def open_reader() -> tuple[Reader, int]:
            layout, size = _layout_of(picture), _TILED_READER_BYTES
            if not layout.stream.tiled:
                width, height = picture.levels[0]
                size = picture.identity.size + width * height * _DECODER_BYTES_PER_PIXEL
            return self._make_reader(picture, n), size

        key = (*picture.identity, n, "reader")
        return self._files.get_or_open(key, open_reader)  # type: ignore[no-any-return]  # entries are of many types

    def _make_reader(self, picture: PictureHeaders, n: int) -> Reader:
        layout = _layout_of(picture)
        if not layout.index.is_whole:
            # More of a partial file may have arrived within the resolution of its modification
            # time.
            layout = read_layout(Path(picture.path))
        return Reader(self._openjpeg, layout, picture.path, n)

    def _decode_level(self, picture: PictureHeaders, n: int) -> tuple[Any, int]:
        area = (0, 0, *picture.levels[n])
        if n > _layout_of(picture).header.base_reduction(n):
            image = self._cut_averaged(picture, n, *area)
        else:
            reader = self._make_reader(picture, n)
            try:
                image = reader.read(*area)
            finally:
                reader.close()
        return image, image_bytes(image)


def image_bytes(image: Any) -> int:
    """Bytes of the pixels of an image."""
    return int(image.width * image.height * image.bands * (2 if image.format == "ushort" else 1))


def _layout_of(picture: PictureHeaders) -> Jp2Layout:
    if picture.jpeg2000 is None:
        raise ValueError("not a JPEG2000 file")
    return picture.jpeg2000
