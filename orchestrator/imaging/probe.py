"""Reads what a picture is from its headers. No pixel is decoded, and dimensions are checked against
limits before they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged, InvalidInput, TooLarge
from orchestrator.imaging import colour, profiles
from orchestrator.imaging.formats.file_type import MEDIA_TYPES, sniff_file
from orchestrator.imaging.formats.loaders import PDF_DPI, load_picture
from orchestrator.imaging.jpeg2000 import binding, jp2_layout
from orchestrator.imaging.jpeg2000.channel_plan import ChannelPlan
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Header
from orchestrator.imaging.picture_headers import header_number
from orchestrator.imaging.recipes import (
    FASTEST,
    MAX_SIDE,
    UNTILED_TILE,
    InputFormat,
    Probe,
    pyramid_levels,
)
from orchestrator.imaging.tiff import level_reader
from orchestrator.imaging.tiff.preflight import check_decodable, check_tiles
from orchestrator.imaging.tiff.pyramid import TiffPicture, read_picture
from orchestrator.model import Dimensions, SourceKind

_SMALLEST_TILE, _LARGEST_TILE = 256, 1024
_BITS = {"uchar": 8, "char": 8, "ushort": 16, "short": 16}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of what is decoded: pixels of the picture, pages or frames of the file."""

    max_pixels: int
    max_frames: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a PDF, counted from 1, and the dots per inch at which it is drawn."""

    number: int = 1
    dpi: int = PDF_DPI

    def options(self, name: InputFormat) -> dict[str, int]:
        """What the loader of a format must be told. Other files than PDF have one page."""
        return {"page": self.number - 1, "dpi": self.dpi} if name == "pdf" else {}


FIRST_PAGE = Page()


def probe(path: Path, bounds: Bounds, page: Page = FIRST_PAGE) -> Probe:
    """What the headers of the picture at `path` say; of a PDF those of one page.

    Raises FileNotFoundError, TooLarge, Unprocessable, VipsError for a header that libvips refuses.
    """
    name = sniff_file(path)
    if name == "tiff":
        return _probe_tiff(path, bounds)
    if name == "jpeg2000":
        return _probe_jpeg2000(path, bounds)
    image = load_picture(name, str(path), **page.options(name))
    check_size((image.width, image.height), bounds)
    pages = header_number(image, "n-pages", 1) if name != "pdf" else 1
    check_frames(pages, bounds)
    return _describe(name, image, pages)


def probe_pyramid(path: Path, bounds: Bounds) -> Probe:
    """As `probe`, of a pyramid TIFF that we wrote: with 16 bits it is tile-ready, too."""
    if sniff_file(path) != "tiff":
        raise InvalidInput("The file is not a TIFF.")
    return _probe_tiff(path, bounds, allow_deep=True)


def count_pages(path: Path, bounds: Bounds) -> int:
    """The number of pages of a PDF; 1 for any other picture. Raises as `probe`."""
    name = sniff_file(path)
    if name != "pdf":
        return 1
    pages = header_number(load_picture(name, str(path)), "n-pages", 1)
    check_frames(pages, bounds)
    return pages


def check_size(dimensions: Dimensions, bounds: Bounds) -> None:
    """Raises TooLarge or Damaged for dimensions that must not be decoded."""
    width, height = dimensions
    if width < 1 or height < 1:
        raise Damaged("The image has no pixels.")
    if max(dimensions) > MAX_SIDE:
        raise TooLarge(f"The image has a side of more than {MAX_SIDE} pixels. Use a smaller image.")
    if width * height > bounds.max_pixels:
        raise TooLarge(f"The image has more than {bounds.max_pixels} pixels. Use a smaller image.")


def check_frames(frames: int, bounds: Bounds) -> None:
    """Raises TooLarge for a file of more pages or frames than `bounds` allows."""
    if frames > bounds.max_frames:
        raise TooLarge(
            f"The image has more than {bounds.max_frames} pages or frames. Use a file with fewer."
        )


def _describe(name: InputFormat, image: Any, pages: int) -> Probe:
    orientation = header_number(image, "orientation", 1)
    return _describe_original(
        name,
        (image.width, image.height),
        orientation,
        pages=pages,
        bands=image.bands,
        bits=_BITS.get(image.format, 32),
        has_alpha=colour.has_alpha(image),
        notes=_notes(image),
    )


def _describe_original(
    name: InputFormat, stored: Dimensions, orientation: int, **facts: Any
) -> Probe:
    """The probe of an original of `stored` dimensions. `facts` are the other fields of Probe."""
    size = stored[::-1] if orientation >= 5 else stored
    media_type, extension = MEDIA_TYPES[name]
    return Probe(
        width=size[0],
        height=size[1],
        format=name,
        media_type=media_type,
        extension=extension,
        kind=SourceKind.ORIGINAL,
        tile_width=FASTEST.tile,
        tile_height=FASTEST.tile,
        levels=pyramid_levels(size, FASTEST.tile),
        orientation=orientation,
        **facts,
    )


def _notes(image: Any) -> tuple[str, ...]:
    note = colour.ignored_profile(image)
    return (note,) if note else ()


def _probe_jpeg2000(path: Path, bounds: Bounds) -> Probe:
    """The probe of a JPEG2000 file of which every tile-part is there. Raises Damaged, Unsupported,
    TooLarge, FileNotFoundError.
    """
    binding.require()
    check_size(jp2_layout.read_header(path).stream.dimensions, bounds)
    header = jp2_layout.read_whole_layout(path).header
    stream, plan, size = header.stream, header.plan, header.stream.dimensions
    tile = _advertised_tile(stream.tile) if stream.tiled else (UNTILED_TILE, UNTILED_TILE)
    media_type, extension = MEDIA_TYPES["jpeg2000"]
    return Probe(
        width=size[0],
        height=size[1],
        format="jpeg2000",
        media_type=media_type,
        extension=extension,
        kind=SourceKind.JPEG2000 if _has_fast_levels(header) else SourceKind.ORIGINAL,
        tile_width=tile[0],
        tile_height=tile[1],
        levels=pyramid_levels(size, max(tile)),
        natively_tiled=stream.tiled,
        bands=plan.bands,
        bits=max(channel.bits for channel in plan.colours),
        has_alpha=plan.opacity is not None,
        notes=_notes_of_plan(plan),
    )


def _notes_of_plan(plan: ChannelPlan) -> tuple[str, ...]:
    if plan.ignores_profile:
        return ("The embedded colour profile does not fit the channels. It is ignored.",)
    interpretation = {"gray": "b-w", "cmyk": "cmyk"}.get(plan.model, "srgb")
    note = profiles.fault_of_profile(plan.profile, interpretation) if plan.profile else None
    return (note,) if note else ()


def _has_fast_levels(header: Jp2Header) -> bool:
    """True if each tile at each scale is decoded from about as many pixels as it has. Otherwise a
    finer level, or the whole image, is decoded for a tile.
    """
    width, height = header.stream.dimensions
    if width * height <= jp2_layout.SMALL_LEVEL_PIXELS:
        return True
    has_levels = len(header.levels) <= header.usable_reductions + 1
    return has_levels and not (header.stream.high_throughput and not header.stream.tiled)


def _advertised_tile(tile: Dimensions) -> Dimensions:
    """The tiles of the file, doubled to a useful size; 512 x 512 if they are large or oblong."""
    width, height = tile
    while min(width, height) < _SMALLEST_TILE:
        width, height = 2 * width, 2 * height
    if max(width, height) > _LARGEST_TILE:
        return UNTILED_TILE, UNTILED_TILE
    return width, height


def _probe_tiff(path: Path, bounds: Bounds, *, allow_deep: bool = False) -> Probe:
    """The probe of a TIFF. What libvips says of each level must be what the directories say."""
    picture = read_picture(path)
    check_size(picture.dimensions, bounds)
    pages = picture.pages
    notes: tuple[str, ...] = ()
    if picture.samples.engine == "libvips":
        for n in range(len(picture.levels)):
            image = level_reader.open_level(str(path), picture, n)
            pages = header_number(image, "n-pages", pages)
        if picture.directory.profile.count:
            notes = _notes(level_reader.load_level(str(path), picture, 0))
    else:
        check_decodable(path, picture)
    check_frames(pages, bounds)
    result = _describe_original(
        "tiff",
        picture.dimensions,
        picture.orientation,
        pages=pages,
        bands=picture.samples.bands,
        bits=16 if picture.samples.is_deep else 8,
        has_alpha=picture.samples.alpha is not None,
        notes=notes,
    )
    if not _is_tile_ready(picture) or (picture.samples.is_deep and not allow_deep):
        return result
    check_tiles(path, picture)
    return _as_pyramid(result, picture)


def _as_pyramid(probe: Probe, picture: TiffPicture) -> Probe:
    tile = picture.directory.tile
    return replace(
        probe,
        kind=SourceKind.PYRAMID_TIFF,
        tile_width=tile[0],
        tile_height=tile[1],
        levels=pyramid_levels(probe.dimensions, max(tile)),
        natively_tiled=True,
        pages=1,
    )


def _is_tile_ready(picture: TiffPicture) -> bool:
    """True if tiles can be cut from the file as it is: web colours (of 8 or 16 bits), tiles of a
    useful size, levels down to a few tiles, and the picture first, where external image servers
    expect it.
    """
    tile, last, samples = picture.directory.tile, picture.levels[-1].dimensions, picture.samples
    has_useful_tiles = all(64 <= edge <= _LARGEST_TILE for edge in tile)
    # A side of one pixel cannot be halved, so the pyramid of a very narrow picture ends there.
    has_all_levels = has_useful_tiles and (
        min(last) == 1 or all(side <= 4 * edge for side, edge in zip(last, tile, strict=True))
    )
    return (
        picture.random_access
        and picture.levels[0].is_first_page
        and has_all_levels
        and picture.orientation == 1
        and samples.kind != "cmyk"
        and not picture.directory.profile.count
    )
