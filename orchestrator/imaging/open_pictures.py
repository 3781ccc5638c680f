"""Pictures kept open: opening costs more than a tile (a JPEG2000 header walks the whole codestream,
an original is decoded).

One `Opened` belongs to one thread of one process and is never shared. Entries are keyed by what the
file is now (inode, time, size) and by reduction, so a replaced file is opened afresh; the least
recently used leave when their estimated bytes exceed the budget. `level` is the only thing `render`
needs: pixels of the file at some reduction of its choice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.imaging import tiff_layout as tiff
from orchestrator.imaging import vips
from orchestrator.imaging.file_type import sniff_file
from orchestrator.imaging.jpeg2000 import reader as openjpeg
from orchestrator.imaging.jpeg2000.codestream import read_codestream
from orchestrator.imaging.recipes import InputFormat, Recipe, Region, reduction
from orchestrator.imaging.stored_tiles import StoredTiles
from orchestrator.model import Dimensions

MAX_OPEN = 64
JPEG_SHRINKS = 3
PDF_DPI = 150
"""Resolution at which page 1 of a PDF is drawn; also what its probe reports, so never change one
without the other.
"""
_SMALLEST_SHRUNK = 8
"""libvips ends its process when shrinking on load leaves no pixel."""
_WIDE = 64
WHOLE_PIXELS = 1_500_000
"""Levels of JPEG2000 up to this size are decoded whole: it takes two or three tiles' time."""
_READER_PIXEL_BYTES = 1
"""An OpenJPEG decoder keeps the file and, measured, about a byte for each pixel of full scale."""
MAX_SVG_BYTES = 32 * 1024**2


class Level(NamedTuple):
    """One reduction of a file: `cut(left, top, width, height)` gives its pixels; how many pixels of
    full scale one of them stands for on each axis.
    """

    cut: Callable[[int, int, int, int], Any]
    width: int
    height: int
    across: float
    down: float
    streamed: bool = False
    """True if rows can be read only once and in order."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What opening told about a file: `levels` are the stored dimensions at each reduction the
    decoder offers.
    """

    identity: tuple[str | int, ...]
    path: str
    format: InputFormat
    levels: tuple[Dimensions, ...]
    lazy: bool
    """True if any region can be read without decoding the rest."""
    orientation: int = 1
    layout: tiff.Layout | None = None
    """The directories of a TIFF."""
    plain: bool = False
    """True for a codestream in one piece that OpenJPEG can be asked for directly."""
    plain_tiles: bool = False
    """True for one in tiles, of which that holds for reductions: of full scale libvips is as fast.
    """


class Opened:
    """An LRU of opened pictures and levels with a byte budget."""

    def __init__(self, budget: int, *, sandboxed: bool) -> None:
        """`budget` in bytes; only a `sandboxed` process may hand bytes to OpenJPEG."""
        self._budget = budget
        self._entries: OrderedDict[tuple[object, ...], tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._openjpeg = openjpeg.load() if sandboxed else None

    def picture(self, path: str) -> Picture:
        """The file at `path` as it is now. Raises FileNotFoundError, Unprocessable, VipsError."""
        stat = Path(path).stat()
        identity = (path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        return self._keep(identity, lambda: (_look(path, identity), 4096))  # type: ignore[no-any-return]

    def stored_tile(self, picture: Picture, recipe: Recipe) -> bytes | None:
        """The answer to `recipe` if the file holds just that tile as JPEG, undecoded."""
        layout = picture.layout
        if layout is None or not picture.lazy or picture.orientation != 1:
            return None
        key = (*picture.identity, "stored")
        tiles = self._keep(key, lambda: (StoredTiles(picture.path, layout), 4096))
        return tiles.jpeg(recipe)  # type: ignore[no-any-return]  # entries are of many types

    def level(self, picture: Picture, region: Region, size: Dimensions) -> Level:
        """The coarsest level that has `size` pixels for a stored `region`.

        Raises VipsError or CodestreamError, here or when it is cut.
        """
        full = picture.levels[0]
        n = choose(picture, region, size)
        if picture.plain and self._openjpeg:
            width, height = picture.levels[n]
            return Level(self._plain(picture, n), width, height, 2**n, 2**n)
        if picture.plain_tiles and n > 0 and self._openjpeg:
            width, height = picture.levels[n]
            return Level(self._plain_tiles(picture, n), width, height, 2**n, 2**n)
        kept = self._fits(picture, n)
        if kept:
            image = self._keep((*picture.identity, n), lambda: self._open(picture, n))
        else:
            image = _load(picture, n, access="sequential")
        across, down = factor(full[0], image.width, n), factor(full[1], image.height, n)
        return Level(partial(_crop, image), image.width, image.height, across, down, not kept)

    def decode_block(self, picture: Picture, n: int, block: Region) -> None:
        """Decode a rectangle of level `n` in one go, so that what is cut from it costs nothing
        more.

        Does nothing where that would gain nothing. Raises CodestreamError.
        """
        width, height = picture.levels[n]
        if not (picture.plain and self._openjpeg) or width * height <= WHOLE_PIXELS:
            return
        key = (*picture.identity, n, "block")
        if key in self._entries:
            self._drop(key)
        image = self._reader(picture, n).read(*block)
        self._keep(key, lambda: ((block, image), block[2] * block[3] * image.bands))

    def _plain(self, picture: Picture, n: int) -> Callable[[int, int, int, int], Any]:
        """How to cut level `n` of a codestream in one piece: small levels are decoded whole, once;
        of others the decoder is kept, and the last block.
        """
        width, height = picture.levels[n]
        if width * height <= WHOLE_PIXELS:
            image = self._keep((*picture.identity, n), lambda: self._whole(picture, n))
            return partial(_crop, image)
        return partial(self._from_block, picture, n)

    def _plain_tiles(self, picture: Picture, n: int) -> Callable[[int, int, int, int], Any]:
        """How to cut level `n` of a codestream in tiles: libvips decodes them one by one and looks
        through the file for each, measured, twice as long as all in one go.
        """
        width, height = picture.levels[n]
        if width * height <= WHOLE_PIXELS:
            image = self._keep((*picture.identity, n), lambda: self._whole(picture, n))
            return partial(_crop, image)
        return partial(self._once, picture, n)

    def _once(self, picture: Picture, n: int, *area: int) -> Any:
        """An area by a decoder of its own: of tiles, each can be used once."""
        reader = openjpeg.Reader(self._openjpeg, picture.path, n)
        try:
            return reader.read(*area)
        finally:
            reader.close()

    def _from_block(
        self, picture: Picture, n: int, left: int, top: int, width: int, height: int
    ) -> Any:
        block, _ = self._entries.get((*picture.identity, n, "block"), (None, 0))
        if block is not None:
            (x, y, w, h), image = block
            if x <= left and y <= top and left + width <= x + w and top + height <= y + h:
                return _crop(image, left - x, top - y, width, height)
        return self._reader(picture, n).read(left, top, width, height)

    def _reader(self, picture: Picture, n: int) -> openjpeg.Reader:
        key = (*picture.identity, n, "reader")

        def opened() -> tuple[openjpeg.Reader, int]:
            width, height = picture.levels[0]
            cost = int(picture.identity[3]) + width * height * _READER_PIXEL_BYTES
            return openjpeg.Reader(self._openjpeg, picture.path, n), cost

        return self._keep(key, opened)  # type: ignore[no-any-return]  # entries are of many types

    def _whole(self, picture: Picture, n: int) -> tuple[Any, int]:
        width, height = picture.levels[n]
        reader = openjpeg.Reader(self._openjpeg, picture.path, n)
        image = reader.read(0, 0, width, height)
        reader.close()
        return image, width * height * image.bands

    def _fits(self, picture: Picture, n: int) -> bool:
        return picture.lazy or _decoded_bytes(picture.levels[n]) <= self._budget

    def _open(self, picture: Picture, n: int) -> tuple[Any, int]:
        if picture.lazy:
            image = _load(picture, n, access="random")
            cost = 2 * int(picture.identity[3]) if picture.format == "jpeg2000" else 2 * 1024**2
            return image, cost
        image = _load(picture, n, access="sequential").copy_memory()
        return image, image.width * image.height * image.bands * (
            2 if image.format == "ushort" else 1
        )

    def _keep(self, key: tuple[object, ...], make: Callable[[], tuple[Any, int]]) -> Any:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry[0]
        entry = make()
        self._entries[key] = entry
        self._bytes += entry[1]
        while len(self._entries) > 1 and (
            self._bytes > self._budget or len(self._entries) > MAX_OPEN
        ):
            self._drop(next(iter(self._entries)))
        return entry[0]

    def forget(self, path: str) -> None:
        """Close whatever is kept of `path`: after a failed read, a level may hold broken state."""
        for key in [key for key in self._entries if key[0] == path]:
            self._drop(key)

    def _drop(self, key: tuple[object, ...]) -> None:
        entry, cost = self._entries.pop(key)
        self._bytes -= cost
        if isinstance(entry, openjpeg.Reader | StoredTiles):
            entry.close()


def _crop(image: Any, left: int, top: int, width: int, height: int) -> Any:
    if (left, top, width, height) == (0, 0, image.width, image.height):
        return image
    return image.crop(left, top, width, height)


def choose(picture: Picture, region: Region, size: Dimensions) -> int:
    """The number of the coarsest level that has `size` pixels for a stored `region`."""
    best = 0
    for n in range(1, len(picture.levels)):
        if not all(_enough(picture, n, axis, region, size) for axis in (0, 1)):
            break
        best = n
    return best


def _enough(picture: Picture, n: int, axis: int, region: Region, size: Dimensions) -> bool:
    """True if level `n` has the pixels for `size` on this axis (0: across, 1: down)."""
    full, level = picture.levels[0][axis], picture.levels[n][axis]
    start, length, wanted = region[axis], region[axis + 2], size[axis]
    ratio = factor(full, level, n)
    if ratio != 2**n:
        return length / ratio >= wanted
    # Levels rounded down lack up to a pixel at the far edge: not to be seen but in a narrow piece.
    cut_short = level * ratio < full and start + length == full and wanted < _WIDE
    return not cut_short and reduction((length, length), (wanted, wanted), n) == n


def factor(full: int, level: int, n: int) -> float:
    """How many pixels of full scale one of level `n` stands for on an axis: 2**n where the level is
    that reduction, rounded either way at each step; else the plain ratio.
    """
    power = 2**n
    if full // power - 1 <= level <= -(-full // power):
        return float(power)
    return full / level


def _decoded_bytes(dimensions: Dimensions) -> int:
    return dimensions[0] * dimensions[1] * 4


def _look(path: str, identity: tuple[str | int, ...]) -> Picture:
    """Open the headers of a file. Raises FileNotFoundError, Unprocessable, VipsError."""
    name = sniff_file(Path(path))
    if name == "jpeg2000":
        stream = read_codestream(Path(path))
        levels = halvings(stream.dimensions, stream.levels)
        return Picture(
            identity,
            path,
            name,
            levels,
            lazy=True,
            plain=stream.plain and not stream.tiled,
            plain_tiles=stream.plain and stream.tiled,
        )
    image = load_first(name, path)
    full = (image.width, image.height)
    levels = (full,)
    lazy, layout = False, None
    if name == "jpeg":
        levels = tuple((full[0] >> n, full[1] >> n) for n in range(_jpeg_shrinks(full) + 1))
    elif name == "tiff":
        layout = tiff.read_layout(Path(path))
        levels = tuple(level.dimensions for level in layout.levels)
        lazy = layout.levels[0].tile != (0, 0)
    return Picture(identity, path, name, levels, lazy, number(image, "orientation", 1), layout)


def _jpeg_shrinks(full: Dimensions) -> int:
    return max(n for n in range(JPEG_SHRINKS + 1) if n == 0 or min(full) >> n >= _SMALLEST_SHRUNK)


def number(image: Any, field: str, default: int) -> int:
    """A numeric header field of an opened image."""
    return int(image.get(field)) if field in image.get_fields() else default


def load_first(name: InputFormat, path: str, **options: Any) -> Any:
    """The first page or frame at full scale, as every other reading of this file sees it."""
    match name:
        case "svg":
            # From memory there is no base address, so nothing the drawing refers to can be loaded.
            body = Path(path).read_bytes()[:MAX_SVG_BYTES]
            return vips.load_bytes("svg", body, **options)
        case "pdf":
            return vips.load("pdf", path, dpi=PDF_DPI, **options)
        case _:
            return vips.load(name, path, **options)


def halvings(full: Dimensions, levels: int) -> tuple[Dimensions, ...]:
    """The dimensions at each reduction of a codestream with so many levels."""
    return tuple((-(-full[0] >> n), -(-full[1] >> n)) for n in range(levels + 1))


def _load(picture: Picture, n: int, *, access: str) -> Any:
    match picture.format:
        case "jpeg2000":
            return vips.load("jpeg2000", picture.path, page=n)
        case "jpeg":
            return vips.load("jpeg", picture.path, shrink=2**n, access=access)
        case "tiff" if n > 0 and picture.layout and picture.layout.subifds:
            return vips.load("tiff", picture.path, subifd=n - 1, access=access)
        case "tiff":
            return vips.load("tiff", picture.path, page=n, access=access)
        case name:
            return load_first(name, picture.path, access=access)
