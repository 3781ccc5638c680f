"""JPEG2000 written by OpenJPEG itself, tile after tile, so that memory is bounded by a strip of the
picture.

Each resolution of each tile is a tile-part of its own, with packet lengths (PLT); `ordering` then
sorts them by resolution, so that a prefix of the file holds every low resolution. A picture has one
or three components of 8 or 16 bits, and possibly an opacity channel. The structures are those of
libopenjp2.so.7, unchanged since 2.1; `load` looks whether they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000 import reorder as ordering
from orchestrator.imaging.jpeg2000.reader import CodestreamError, Handler, ImageHeader, listener
from orchestrator.imaging.recipes import ConversionPolicy

_SONAME = "libopenjp2.so.7"
_JP2, _SRGB, _GRAY, _RPCL, _PRECINCTS = 2, 1, 2, 2, 1
_WRITE_BYTES = 1024**2
_PARAMETER_BYTES = 32 * 1024
_MOST_LEVELS = 6
_OVERVIEW = 128
"""Longest side of the lowest resolution: what is smaller is of no use to anyone."""
_PRECINCT_EDGES = (256, 256, 256, 128, 128, 64, 64)
"""From the full resolution down."""
_TINY = 64
ONE_PIECE_PIXELS = 64_000_000
"""OpenJPEG needs 27 bytes for each pixel of a tile (measured): larger pictures are tiled."""
_TILE = 512

_INT, _FLOAT = ctypes.c_int, ctypes.c_float
_INTS = _INT * 33
_OFFSETS: dict[str, tuple[int, Any]] = {
    "tile_size_on": (0, _INT),
    "tile_width": (12, _INT),
    "tile_height": (16, _INT),
    "by_rate": (20, _INT),
    "by_quality": (28, _INT),
    "coding_style": (48, _INT),
    "progression": (52, _INT),
    "layers": (4796, _INT),
    "rate": (4800, _FLOAT),
    "psnr": (5200, _FLOAT),
    "resolutions": (5600, _INT),
    "block_width": (5604, _INT),
    "block_height": (5608, _INT),
    "irreversible": (5616, _INT),
    "precincts": (5628, _INT),
    "precinct_widths": (5632, _INTS),
    "precinct_heights": (5764, _INTS),
    "subsampling_x": (18196, _INT),
    "subsampling_y": (18200, _INT),
    "tile_parts": (18696, ctypes.c_char),
    "tile_parts_by": (18697, ctypes.c_char),
    "colour_transform": (18698, ctypes.c_char),
}
"""Where opj_cparameters_t of 2.1 to 2.5 keeps what we set, in bytes."""
_DEFAULTS = {
    "tile_size_on": 0,
    "resolutions": 6,
    "block_width": 64,
    "block_height": 64,
    "irreversible": 0,
    "subsampling_x": 1,
    "subsampling_y": 1,
}


class _Component(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")
    ]


_P, _U32 = ctypes.c_void_p, ctypes.c_uint32
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "opj_version": (ctypes.c_char_p, ()),
    "opj_create_compress": (_P, (_INT,)),
    "opj_set_default_encoder_parameters": (None, (_P,)),
    "opj_image_tile_create": (_P, (_U32, _P, _INT)),
    "opj_image_destroy": (None, (_P,)),
    "opj_set_error_handler": (_INT, (_P, Handler, _P)),
    "opj_setup_encoder": (_INT, (_P, _P, _P)),
    "opj_encoder_set_extra_options": (_INT, (_P, _P)),
    "opj_codec_set_threads": (_INT, (_P, _INT)),
    "opj_stream_create_file_stream": (_P, (ctypes.c_char_p, ctypes.c_size_t, _INT)),
    "opj_start_compress": (_INT, (_P, _P, _P)),
    "opj_write_tile": (_INT, (_P, _U32, ctypes.c_char_p, _U32, _P)),
    "opj_end_compress": (_INT, (_P, _P)),
    "opj_stream_destroy": (None, (_P,)),
    "opj_destroy_codec": (None, (_P,)),
}


def load() -> Any | None:
    """The library, or None where it is missing, too old for packet lengths (2.4), or keeps its
    parameters elsewhere than we think.
    """
    try:
        library = ctypes.CDLL(_SONAME)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    if not library.opj_version().startswith(b"2."):
        return None
    defaults = _parameters(library)
    as_known = all(_value(defaults, name) == value for name, value in _DEFAULTS.items())
    return library if as_known else None


@dataclass(frozen=True, slots=True)
class Grid:
    """How a picture is cut: its tiles' edges and how often they are halved."""

    tile_width: int
    tile_height: int
    levels: int


def grid_of(width: int, height: int, tile: int) -> Grid:
    """The grid of a picture by a policy's `tile` (0: in one piece, where memory allows)."""
    if not tile and width * height > ONE_PIECE_PIXELS:
        tile = _TILE
    levels, side = 0, max(width, height)
    while side > _OVERVIEW and levels < _MOST_LEVELS:
        side, levels = -(-side // 2), levels + 1
    # A tile may be larger than its picture, and for the library must bear that many halvings.
    least = 1 << (levels + 1)
    return Grid(tile or max(width, least), tile or max(height, least), levels)


def write(
    library: Any,
    image: Any,
    target: Path,
    policy: ConversionPolicy,
    *,
    threads: int = 1,
    seen: Callable[[Any], None] | None = None,
) -> None:
    """Write `image` (sRGB or gray, 8 or 16 bits, read once from the top) to `target` by `policy`;
    `seen` is shown every strip of it in memory, from the top.

    `target` is there whole or not at all. Raises CodestreamError, VipsError, OSError.
    """
    grid = grid_of(image.width, image.height, policy.tile)
    by_tile = target.with_name(f"{target.name}.tiles")
    ordered = target.with_name(f"{target.name}.part")
    try:
        with _Encoder(library, image, by_tile, policy, grid, threads) as encoder:
            for strip in _strips(image, grid.tile_height):
                if seen is not None:
                    seen(strip)
                for left in range(0, strip.width, grid.tile_width):
                    encoder.add(strip, left)
            encoder.end()
        ordering.by_resolution(by_tile, ordered)
        ordered.replace(target)
    finally:
        by_tile.unlink(missing_ok=True)
        ordered.unlink(missing_ok=True)


def _strips(image: Any, height: int) -> Iterator[Any]:
    """The picture in strips of `height` rows, each in memory, from one pass over it.

    All are drawn from one region: between evaluations libvips forgets the rows of a strip of the
    file, which it does not read a second time.
    """
    region = vips.Region.new(image)
    for top in range(0, image.height, height):
        rows = min(height, image.height - top)
        body = region.fetch(0, top, image.width, rows)
        strip = vips.Image.new_from_memory(body, image.width, rows, image.bands, image.format)
        yield strip.copy(interpretation=image.interpretation)


class _Encoder:
    """One file being written; its tiles come in order."""

    def __init__(
        self,
        library: Any,
        image: Any,
        path: Path,
        policy: ConversionPolicy,
        grid: Grid,
        threads: int,
    ) -> None:
        self._library = library
        self._grid = grid
        self._tiles = 0
        self._messages: list[str] = []
        self._handler = Handler(listener(self._messages))
        self._image: int | None = None
        self._stream: int | None = None
        self._codec: int | None = library.opj_create_compress(_JP2)
        library.opj_set_error_handler(self._codec, self._handler, None)
        self._image = _header(library, image)
        self._parameters = _settings(library, image, policy, grid)
        try:
            self._open(path, threads)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, threads: int) -> None:
        library, codec = self._library, self._codec
        path.touch()  # an OSError says more than the library does
        self._must(library.opj_setup_encoder(codec, self._parameters, self._image))
        options = (ctypes.c_char_p * 2)(b"PLT=YES", None)
        self._must(library.opj_encoder_set_extra_options(codec, options))
        if threads > 1:
            library.opj_codec_set_threads(codec, threads)  # without threads it takes longer
        self._stream = library.opj_stream_create_file_stream(str(path).encode(), _WRITE_BYTES, 0)
        self._must(self._stream)
        self._must(library.opj_start_compress(codec, self._image, self._stream))

    def add(self, strip: Any, left: int) -> None:
        """The next tile: a column of a strip of tiles."""
        tile = strip.crop(left, 0, min(self._grid.tile_width, strip.width - left), strip.height)
        planes = tile
        if tile.bands > 1:  # one plane below the other
            planes = vips.Image.arrayjoin(tile.bandsplit(), across=1)
        body = planes.write_to_memory()
        done = self._library.opj_write_tile(
            self._codec, self._tiles, bytes(body), len(body), self._stream
        )
        self._must(done)
        self._tiles += 1

    def end(self) -> None:
        """Complete the file."""
        self._must(self._library.opj_end_compress(self._codec, self._stream))

    def close(self) -> None:
        """Release everything."""
        library = self._library
        if self._stream:
            library.opj_stream_destroy(self._stream)
        if self._codec:
            library.opj_destroy_codec(self._codec)
        if self._image:
            library.opj_image_destroy(self._image)
        self._stream = self._codec = self._image = None

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _must(self, done: int | None) -> None:
        if not done:
            raise CodestreamError("; ".join(self._messages) or "OpenJPEG failed to write")


def _header(library: Any, image: Any) -> int:
    """What the file says of its components: colours, then opacity."""
    bits = 16 if image.format == "ushort" else 8
    components = (_Component * image.bands)(
        *(
            _Component(1, 1, image.width, image.height, 0, 0, bits, bits, 0)
            for _ in range(image.bands)
        )
    )
    colour = _SRGB if image.bands >= 3 else _GRAY
    made = library.opj_image_tile_create(image.bands, components, colour)
    if not made:
        raise MemoryError
    header = ImageHeader.from_address(made)
    header.x0, header.y0, header.x1, header.y1 = 0, 0, image.width, image.height
    if image.bands in (2, 4):
        header.comps[image.bands - 1].alpha = 1
    return int(made)


def _settings(library: Any, image: Any, policy: ConversionPolicy, grid: Grid) -> Any:
    lossless = policy.lossless or min(image.width, image.height) < _TINY
    # The encoder misses its aim by far in tiny pictures; they cost nothing lossless.
    edges = [_PRECINCT_EDGES[min(n, len(_PRECINCT_EDGES) - 1)] for n in range(grid.levels + 1)]
    padded = edges + [0] * (33 - len(edges))
    parameters = _parameters(library)
    values: dict[str, Any] = {
        "tile_size_on": 1,
        "tile_width": grid.tile_width,
        "tile_height": grid.tile_height,
        "layers": 1,
        "progression": _RPCL,
        "resolutions": grid.levels + 1,
        "coding_style": _PRECINCTS,
        "precincts": len(edges),
        "precinct_widths": padded,
        "precinct_heights": padded,
        "irreversible": int(not lossless),
        "by_rate" if lossless else "by_quality": 1,
        "rate" if lossless else "psnr": 0.0 if lossless else policy.psnr,
        "tile_parts": b"\1",
        "tile_parts_by": b"R",
        "colour_transform": b"\1" if image.bands >= 3 else b"\0",
    }
    for name, value in values.items():
        offset, kind = _OFFSETS[name]
        place = kind.from_buffer(parameters, offset)
        if kind is _INTS:
            place[:] = value
        else:
            place.value = value
    return parameters


def _parameters(library: Any) -> Any:
    parameters = ctypes.create_string_buffer(_PARAMETER_BYTES)
    library.opj_set_default_encoder_parameters(parameters)
    return parameters


def _value(parameters: Any, name: str) -> Any:
    offset, kind = _OFFSETS[name]
    return kind.from_buffer(parameters, offset).value
