"""Levels of JPEG2000 files, cut by OpenJPEG.

Small levels are decoded whole and kept. For larger levels of an untiled file the last decoded block
is kept. Where the decoder has no suitable resolution, a finer one is averaged. The lists of a file
say which parts of it are read; if they prove wrong, it is read without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.imaging.jpeg2000.binding import CodestreamError, OpenJpeg
from orchestrator.imaging.jpeg2000.channels import average, crop
from orchestrator.imaging.jpeg2000.codestream import Area
from orchestrator.imaging.jpeg2000.grok import Grok
from orchestrator.imaging.jpeg2000.jp2_layout import SMALL_LEVEL_PIXELS, Jp2Layout, read_layout
from orchestrator.imaging.jpeg2000.part_headers import UnsafeParts
from orchestrator.imaging.jpeg2000.reader import Reader, area_of
from orchestrator.imaging.open_files import Key, OpenFiles
from orchestrator.imaging.picture_headers import PictureHeaders
from orchestrator.imaging.recipes import Region

_LAYOUT_BYTES = 4096
_STRIP_PIXELS = 8_000_000
"""Pixels of a finer level that are averaged at once."""

Cut = Callable[[int, int, int, int], Any]
"""Called with (left, top, width, height); returns the pixels."""


class Jpeg2000Levels:
    """Decodes with one OpenJPEG and keeps what is open in `files`."""

    def __init__(self, openjpeg: OpenJpeg, files: OpenFiles, grok: Grok | None = None) -> None:
        """`grok` decodes whole levels, where it is used for them."""
        self._openjpeg = openjpeg
        self._files = files
        self._grok = grok

    def cut_level(self, picture: PictureHeaders, n: int) -> Cut:
        """A function that cuts level `n`. Raises CodestreamError, Damaged, TooLarge, and so does
        the function.
        """
        known = self._files.peek(_key_without_lists(picture))
        if known is not None:
            return self._cut_level(replace(picture, jpeg2000=known), n)
        if not _layout_of(picture).by_parts:
            return self._cut_level(picture, n)
        try:
            cut = self._cut_level(picture, n)
        except (UnsafeParts, CodestreamError):
            return self._cut_level(self._without_lists(picture), n)
        return partial(self._cut_with_lists, picture, n, cut)

    def _cut_with_lists(self, picture: PictureHeaders, n: int, cut: Cut, *area: int) -> Any:
        """What `cut` returns. If the lists of the file prove wrong, it is read without them."""
        try:
            return cut(*area)
        except (UnsafeParts, CodestreamError):
            return self._cut_level(self._without_lists(picture), n)(*area)

    def _without_lists(self, picture: PictureHeaders) -> PictureHeaders:
        layout = self._files.get_or_open(
            _key_without_lists(picture), lambda: (read_layout(Path(picture.path)), _LAYOUT_BYTES)
        )
        return replace(picture, jpeg2000=layout)

    def _cut_level(self, picture: PictureHeaders, n: int) -> Cut:
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

        Does nothing for a level that is decoded whole or averaged, and where the lists of the file
        prove wrong. Raises CodestreamError.
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
        try:
            image = self._open_reader(picture, n).read(*block)
        except UnsafeParts:
            return
        self._files.get_or_open(key, lambda: ((block, image), image_bytes(image)))

    def _cut_from_block(self, picture: PictureHeaders, n: int, *area: int) -> Any:
        left, top, width, height = area
        decoded = self._files.peek((*picture.identity, n, "block"))
        if decoded is not None:
            (x, y, w, h), image = decoded
            if x <= left and y <= top and left + width <= x + w and top + height <= y + h:
                return crop(image, (left - x, top - y, width, height))
        whole = self._decode_whole(picture, n, area)
        return self._open_reader(picture, n).read(*area) if whole is None else whole

    def _decode_whole(self, picture: PictureHeaders, n: int, area: tuple[int, ...]) -> Any | None:
        """What Grok decodes, if `area` is all of level `n`; None if it is not used or fails."""
        size = picture.levels[n]
        if self._grok is None or area != (0, 0, *size):
            return None
        return self._grok.decode(_layout_of(picture), picture.path, n, size)

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
            reader = self._make_reader(picture, n)
            return reader, reader.kept_bytes()

        key = (*picture.identity, n, "reader", _layout_of(picture).by_parts)
        return self._files.get_or_open(key, open_reader)  # type: ignore[no-any-return]  # entries are of many types

    def _make_reader(self, picture: PictureHeaders, n: int) -> Reader:
        return Reader(self._openjpeg, _layout_of(picture), picture.path, n)

    def _decode_level(self, picture: PictureHeaders, n: int) -> tuple[Any, int]:
        area = (0, 0, *picture.levels[n])
        if n > _layout_of(picture).header.base_reduction(n):
            image = self._cut_averaged(picture, n, *area)
        else:
            whole = self._decode_whole(picture, n, area)
            image = self._read_once(picture, n, area) if whole is None else whole
        return image, image_bytes(image)

    def _read_once(self, picture: PictureHeaders, n: int, area: Region) -> Any:
        reader = self._make_reader(picture, n)
        try:
            return reader.read(*area)
        finally:
            reader.close()


def decoded_area(layout: Jp2Layout, n: int, region: Region) -> tuple[int, Area]:
    """(the reduction, the area of the reference grid) that is decoded when `region` of level `n` is
    cut.
    """
    header, (left, top, width, height) = layout.header, region
    base, full = header.base_reduction(n), header.levels[n]
    if full[0] * full[1] <= SMALL_LEVEL_PIXELS or layout.is_indivisible:
        left, top, (width, height) = 0, 0, full
    factor, finer = 1 << (n - base), header.levels[base]
    x, y = left * factor, top * factor
    right, bottom = min(finer[0], x + width * factor), min(finer[1], y + height * factor)
    return base, area_of(layout, base, (x, y, right - x, bottom - y))


def _key_without_lists(picture: PictureHeaders) -> Key:
    return (*picture.identity, "layout")


def image_bytes(image: Any) -> int:
    """Bytes of the pixels of an image."""
    return int(image.width * image.height * image.bands * (2 if image.format == "ushort" else 1))


def _layout_of(picture: PictureHeaders) -> Jp2Layout:
    if picture.jpeg2000 is None:
        raise ValueError("not a JPEG2000 file")
    return picture.jpeg2000
