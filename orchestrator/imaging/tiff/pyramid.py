"""Which image of a TIFF file is the picture, and which ones are its levels.

The picture is the first directory that does not declare itself reduced or a mask. Level n + 1 is
the first later directory that declares itself reduced (or a sub-directory of the picture), has the
same samples, and half the size of level n, rounded up or down. Other directories are passed over.
A gap ends the levels: a quarter of the size is no level. The probe, the renderer and the
conversion all use this module, so that they see the same picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.formats.image_metadata import MAX_XMP_BYTES, orientation_of_xmp
from orchestrator.imaging.intervals import Span
from orchestrator.imaging.tiff.directories import (
    LAST_OFFSET,
    Directory,
    DirectoryReader,
    TagValues,
    TiffLayoutError,
)
from orchestrator.imaging.tiff.interpretation import (
    JPEG,
    JpegKind,
    Samples,
    has_same_samples,
    interpret,
)
from orchestrator.imaging.tiff.jpeg_frames import parse_frame
from orchestrator.model import Dimensions

_FRAME_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TiffLevel:
    """One image: its directory, and where it is. `page` counts main directories from 0; `subifd`
    counts the sub-directories of that page from 0, or is -1 for the page itself.
    """

    directory: Directory
    page: int
    subifd: int = -1

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels, as stored."""
        return self.directory.dimensions

    @property
    def is_first_page(self) -> bool:
        """True for the first image of the file."""
        return self.page == 0 and self.subifd < 0


@dataclass(frozen=True, slots=True)
class TiffPicture:
    """The picture of a TIFF file. `levels` has at least one entry, the picture itself."""

    levels: tuple[TiffLevel, ...]
    samples: Samples
    pages: int
    orientation: int = 1
    """The orientation of all levels, 1 to 8: what the tag says, or else XMP."""
    spans: tuple[Span, ...] = ()
    """The bytes of all directories, including those that are no level."""

    @property
    def directory(self) -> Directory:
        """The directory of the picture at full scale."""
        return self.levels[0].directory

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels, as stored."""
        return self.levels[0].dimensions

    @property
    def random_access(self) -> bool:
        """True if a region can be read without decoding the rest."""
        return self.samples.engine == "libvips" and self.directory.is_tiled


def read_picture(path: Path) -> TiffPicture:
    """The picture of the file at `path`. Raises FileNotFoundError, Damaged, Unsupported."""
    with path.open("rb") as file:
        return parse_picture(file)


def parse_picture(file: BinaryIO, *, inspect_tiles: bool = True) -> TiffPicture:
    """The picture of an open file. Without `inspect_tiles` only directories are read, and JPEG
    tiles are assumed to be of the usual kind. Raises Damaged, Unsupported, OSError.
    """
    tiles = file if inspect_tiles else None
    try:
        reader = DirectoryReader(file)
        pages = list(reader.read_chain())
        page = _find_page(pages)
        children = list(_read_children(reader, page, pages[page]))
    except TiffLayoutError as error:
        raise Damaged("The TIFF file is damaged: its directories cannot be read.") from error
    top = _find_picture(TiffLevel(pages[page], page), children)
    first = top.directory
    if min(first.dimensions) < 1 or (first.is_tiled and min(first.tile) < 1):
        raise Damaged("The TIFF file is damaged: the image has no pixels.")
    samples = _interpret(tiles, first)
    levels: tuple[TiffLevel, ...] = (top,)
    if samples.engine == "libvips":
        levels = _follow_halvings(tiles, top, children)
        if len(levels) == 1:
            levels = _follow_halvings(tiles, top, _reductions_after(pages, page))
    inner = [child.directory for child in children]
    spans = tuple(span for directory in (*pages, *inner) for span in directory.spans)
    orientation = first.orientation or _orientation_of_xmp(file, first.xmp)
    return TiffPicture(levels, samples, len(pages), orientation, spans)


def _orientation_of_xmp(file: BinaryIO, values: TagValues) -> int:
    if not values.count:
        return 1
    file.seek(values.offset)
    return orientation_of_xmp(file.read(min(values.count, MAX_XMP_BYTES))) or 1


def _find_page(pages: list[Directory]) -> int:
    """The number of the first page that is not a reduction or a mask; without one, of the
    largest.
    """
    for n, page in enumerate(pages):
        if not page.is_reduced and not page.is_mask:
            return n
    areas = [page.dimensions[0] * page.dimensions[1] for page in pages]
    return areas.index(max(areas))


def _read_children(reader: DirectoryReader, number: int, page: Directory) -> Iterator[TiffLevel]:
    """The sub-directories of a page that can be read."""
    for n, offset in enumerate(page.children):
        with suppress(TiffLayoutError):
            yield TiffLevel(reader.read_directory(offset)[0], number, n)


def _find_picture(page: TiffLevel, children: list[TiffLevel]) -> TiffLevel:
    """The picture of `page`: if that is only a reduction (as in camera raw files), the first
    sub-directory that is not.
    """
    if page.directory.is_reduced:
        for child in children:
            if not child.directory.is_reduced and not child.directory.is_mask:
                return child
    return page


def _reductions_after(pages: list[Directory], picture: int) -> Iterable[TiffLevel]:
    """The reduced pages between the picture and the next picture."""
    for n in range(picture + 1, len(pages)):
        if not pages[n].is_reduced and not pages[n].is_mask:
            return
        if not pages[n].is_mask:
            yield TiffLevel(pages[n], n)


def _follow_halvings(
    tiles: BinaryIO | None, top: TiffLevel, candidates: Iterable[TiffLevel]
) -> tuple[TiffLevel, ...]:
    levels = [top]
    for each in candidates:
        if _is_half(each.dimensions, levels[-1].dimensions) and _is_alike(
            tiles, each.directory, top.directory
        ):
            levels.append(each)
    return tuple(levels)


def _is_alike(tiles: BinaryIO | None, one: Directory, top: Directory) -> bool:
    """True if `one` can be a level of `top`. A level of a tiled picture has tiles too: a region of
    it must be readable alone.
    """
    if one.is_mask or one.is_tiled != top.is_tiled or not has_same_samples(one, top):
        return False
    try:
        return _interpret(tiles, one).engine == "libvips"
    except (Damaged, Unsupported):
        return False


def _is_half(small: Dimensions, large: Dimensions) -> bool:
    return small != large and all(
        b // 2 <= a <= -(-b // 2) or a == b == 1 for a, b in zip(small, large, strict=True)
    )


def _interpret(tiles: BinaryIO | None, directory: Directory) -> Samples:
    jpeg: JpegKind = _kind_of_jpeg(tiles, directory) if tiles else "usual"
    return interpret(directory, jpeg=jpeg)


def _kind_of_jpeg(file: BinaryIO, directory: Directory) -> JpegKind:
    """The kind of the first JPEG of the image, `usual` if it cannot be read."""
    values = directory.offsets
    if directory.compression != JPEG or not values.count:
        return "usual"
    file.seek(values.offset)
    first = file.read(struct.calcsize(values.code))
    if len(first) < struct.calcsize(values.code):
        return "usual"
    (offset,) = struct.unpack(values.code, first)
    if offset > LAST_OFFSET:
        return "usual"
    file.seek(offset)
    frame = parse_frame(file.read(_FRAME_HEADER_BYTES))
    if frame is None:
        return "usual"
    if frame.is_lossless:
        return "lossless"
    return "usual" if frame.precision == 8 else "deep"
