"""What the headers of a picture file say: its format, and the reductions (levels) it offers.

The levels of a file are numbered from 0 (full scale). Level n has about 1/2**n of the width and
height. No pixel is decoded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.imaging.formats.file_type import sniff_file
from orchestrator.imaging.formats.loaders import load_jpeg, load_picture
from orchestrator.imaging.jpeg2000 import binding, jp2_layout
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout
from orchestrator.imaging.recipes import InputFormat, Region, reduction
from orchestrator.imaging.tiff import level_reader
from orchestrator.imaging.tiff.pyramid import TiffPicture, read_picture
from orchestrator.model import Dimensions

JPEG_SHRINKS = 3
_SMALLEST_SHRUNK = 8
"""libvips ends its process when shrinking on load leaves no pixel."""
_WIDE = 64
_NARROW = 16
"""A result with a side shorter than this is made from a level with twice the pixels. In a lossy
level the colours of an edge spread over three pixels, which shows when the result has few.
"""


class FileIdentity(NamedTuple):
    """Identifies one state of a file. A replaced file has another identity."""

    path: str
    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class PictureHeaders:
    """A picture file. `levels` are the stored (width, height) at each reduction that its decoder
    offers.
    """

    identity: FileIdentity
    format: InputFormat
    levels: tuple[Dimensions, ...]
    random_access: bool
    """True if a region can be read without decoding the rest."""
    orientation: int = 1
    tiff: TiffPicture | None = None
    """The picture of a TIFF file."""
    jpeg2000: Jp2Layout | None = None
    """The headers and tile-parts of a JPEG2000 file."""

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.identity.path

    @property
    def is_untiled_codestream(self) -> bool:
        """True for a JPEG2000 file in one piece."""
        return self.jpeg2000 is not None and not self.jpeg2000.stream.tiled


def identify(path: str) -> FileIdentity:
    """The identity of the file at `path` as it is now. Raises FileNotFoundError."""
    stat = Path(path).stat()
    return FileIdentity(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)


def read_headers(identity: FileIdentity) -> PictureHeaders:
    """Read the headers of a file. Raises FileNotFoundError, Unprocessable, VipsError."""
    path = identity.path
    name = sniff_file(Path(path))
    if name == "jpeg2000":
        binding.require()
        layout = jp2_layout.read_layout(Path(path), by_parts=True)
        levels = layout.header.levels
        return PictureHeaders(identity, name, levels, random_access=True, jpeg2000=layout)
    if name == "tiff":
        tiff = read_picture(Path(path))
        levels = tuple(level.dimensions for level in tiff.levels)
        return PictureHeaders(identity, name, levels, tiff.random_access, tiff.orientation, tiff)
    image = load_picture(name, path)
    full = (image.width, image.height)
    levels = (full,)
    if name == "jpeg":
        levels = tuple((full[0] >> n, full[1] >> n) for n in range(_jpeg_shrinks(full) + 1))
    orientation = header_number(image, "orientation", 1)
    return PictureHeaders(identity, name, levels, random_access=False, orientation=orientation)


def coarsest_level(levels: tuple[Dimensions, ...], region: Region, size: Dimensions) -> int:
    """The number of the coarsest level that has `size` pixels for a stored `region`."""
    best = 0
    for n in range(1, len(levels)):
        if not all(_has_enough_pixels(levels, n, axis, region, size) for axis in (0, 1)):
            break
        best = n
    return best


def _has_enough_pixels(
    levels: tuple[Dimensions, ...], n: int, axis: int, region: Region, size: Dimensions
) -> bool:
    """True if level `n` has the pixels for `size` on this axis (0: x, 1: y)."""
    full, level = levels[0][axis], levels[n][axis]
    start, length, required = region[axis], region[axis + 2], size[axis]
    scale = level_scale(full, level, n)
    if required < _NARROW and length / scale < 2 * required:
        return False
    if scale != 2**n:
        return length / scale >= required
    # Levels that are rounded down lack up to a pixel at the far edge. That is visible only in a
    # narrow result.
    cut_short = level * scale < full and start + length == full and required < _WIDE
    return not cut_short and reduction((length, length), (required, required), n) == n


def level_scale(full: int, level: int, n: int) -> float:
    """How many pixels of full scale correspond to one pixel of level `n`, on one axis.

    2**n if the level is that reduction, rounded up or down at each step; else the plain ratio.
    """
    power = 2**n
    if full // power - 1 <= level <= -(-full // power):
        return float(power)
    return full / level


def load_level(picture: PictureHeaders, n: int, *, access: str) -> Any:
    """Level `n` of a file. Raises as `load_picture`."""
    match picture.format:
        case "jpeg":
            return load_jpeg(picture.path, shrink=2**n, access=access)
        case "tiff" if picture.tiff:
            return level_reader.load_level(picture.path, picture.tiff, n, access=access)
        case name:
            return load_picture(name, picture.path, access=access)


def header_number(image: Any, field: str, default: int) -> int:
    """A numeric header field of an opened image."""
    return int(image.get(field)) if field in image.get_fields() else default


def _jpeg_shrinks(full: Dimensions) -> int:
    return max(n for n in range(JPEG_SHRINKS + 1) if n == 0 or min(full) >> n >= _SMALLEST_SHRUNK)
