"""Pictures that stay open between requests. Opening one costs more than a tile: a JPEG2000 decoder
reads the headers of the whole codestream, and an original is decoded.

An `OpenPictures` belongs to one thread of one process and is never shared. A replaced file is
opened again. `level` returns what `render` needs: pixels of the file at a suitable reduction.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from orchestrator.errors import SourceChanged, Unsupported
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.channels import crop
from orchestrator.imaging.jpeg2000.grok import Grok
from orchestrator.imaging.jpeg2000_levels import Cut, Jpeg2000Levels, image_bytes
from orchestrator.imaging.open_files import OpenFiles
from orchestrator.imaging.picture_headers import (
    PictureHeaders,
    coarsest_level,
    identify,
    level_scale,
    load_level,
    read_headers,
)
from orchestrator.imaging.recipes import Recipe, Region
from orchestrator.imaging.slow_originals import decoded_bytes
from orchestrator.imaging.tiff.stored_tiles import StoredTiles
from orchestrator.model import Dimensions

_HEADERS_BYTES = 4096
_LAZY_IMAGE_BYTES = 2 * 1024**2


class Level(NamedTuple):
    """One reduction of a file. `cut(left, top, width, height)` returns its pixels; `scale_x` and
    `scale_y` say how many pixels of full scale correspond to one of its pixels.
    """

    cut: Cut
    width: int
    height: int
    scale_x: float
    scale_y: float
    sequential: bool = False
    """True if rows can be read only once and in order."""


class OpenPictures:
    """Opened pictures and levels within a byte budget."""

    def __init__(
        self,
        max_bytes: int,
        *,
        sandboxed: bool,
        max_picture_bytes: int | None = None,
        grok: Grok | None = None,
    ) -> None:
        """Only a `sandboxed` process may give bytes to OpenJPEG, tifffile and imagecodecs. One
        decoded picture of up to `max_picture_bytes` is kept, alone, also if it exceeds `max_bytes`.
        `grok` may decode whole JPEG2000 images.
        """
        self.max_bytes = max_bytes
        self._max_picture_bytes = max_bytes if max_picture_bytes is None else max_picture_bytes
        self._is_sandboxed = sandboxed
        self._files = OpenFiles(max_bytes)
        openjpeg = binding.load() if sandboxed else None
        self._jpeg2000 = Jpeg2000Levels(openjpeg, self._files, grok) if openjpeg else None

    def open(self, path: str) -> PictureHeaders:
        """The file at `path` as it is now. Raises FileNotFoundError, Unprocessable, VipsError."""
        identity = identify(path)
        return self._files.get_or_open(  # type: ignore[no-any-return]  # entries are of many types
            identity, lambda: (read_headers(identity), _HEADERS_BYTES)
        )

    def stored_tile(self, picture: PictureHeaders, recipe: Recipe) -> bytes | None:
        """The result of `recipe` if the file holds exactly that tile as JPEG, not decoded; else
        None.
        """
        tiff = picture.tiff
        if tiff is None or not picture.random_access:
            return None
        tiles = self._files.get_or_open(
            (*picture.identity, "stored"),
            lambda: (StoredTiles(picture.path, tiff), _HEADERS_BYTES),
        )
        return tiles.read_jpeg(recipe)  # type: ignore[no-any-return]  # entries are of many types

    def level(self, picture: PictureHeaders, region: Region, size: Dimensions) -> Level:
        """The coarsest level that has `size` pixels for a stored `region`.

        Raises VipsError, CodestreamError, Damaged, Unsupported or TooLarge, here or when the level
        is cut; SourceChanged if the file needs a decoder that this process must not run.
        """
        if picture.tiff and picture.tiff.samples.engine != "libvips" and not self._is_sandboxed:
            raise SourceChanged("The source of the image is not a pyramid TIFF as recorded.")
        n = coarsest_level(picture.levels, region, size)
        if picture.format == "jpeg2000":
            if self._jpeg2000 is None:
                raise Unsupported("JPEG2000 files are decoded only in a decode worker.")
            width, height = picture.levels[n]
            return Level(self._jpeg2000.cut_level(picture, n), width, height, 2**n, 2**n)
        fits = picture.random_access or self._is_kept(picture.levels[n])
        if fits:
            image = self._files.get_or_open((*picture.identity, n), lambda: _open_level(picture, n))
        else:
            image = load_level(picture, n, access="sequential")
        full, (width, height) = picture.levels[0], (image.width, image.height)
        scale_x, scale_y = level_scale(full[0], width, n), level_scale(full[1], height, n)
        return Level(partial(_crop, image), width, height, scale_x, scale_y, not fits)

    def _is_kept(self, level: Dimensions) -> bool:
        """True if a decoded level of these dimensions is kept."""
        return decoded_bytes(level) <= max(self._max_picture_bytes, self._files.max_bytes)

    def decode_block(self, picture: PictureHeaders, n: int, block: Region) -> None:
        """Decode a rectangle of level `n` at once, where that makes cutting from it faster. Raises
        CodestreamError.
        """
        if self._jpeg2000:
            self._jpeg2000.decode_block(picture, n, block)

    def forget(self, path: str) -> None:
        """Close all that is open of `path`: after a failed read a level may hold broken state."""
        self._files.forget(path)


def _open_level(picture: PictureHeaders, n: int) -> tuple[Any, int]:
    """(level `n` by libvips, its estimated bytes)."""
    if picture.random_access:
        return load_level(picture, n, access="random"), _LAZY_IMAGE_BYTES
    image = load_level(picture, n, access="sequential").copy_memory()
    return image, image_bytes(image)


def _crop(image: Any, *region: int) -> Any:
    return crop(image, region)
