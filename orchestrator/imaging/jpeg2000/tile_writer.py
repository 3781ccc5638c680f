"""JPEG2000 files written by OpenJPEG, tile by tile, so that one strip of the image is in memory.

Each resolution of each tile is a tile-part of its own, with packet lengths (PLT). `reorder` then
sorts the tile-parts by resolution, so that a prefix of the file holds every low resolution. An
image has one or three components of 8 or 16 bits, and possibly an opacity channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000 import binding, reorder
from orchestrator.imaging.jpeg2000.binding import OpenJpeg
from orchestrator.imaging.recipes import ConversionPolicy

_WRITE_BYTES = 1024**2
_MAX_LEVELS = 6
_LOWEST_RESOLUTION = 128
"""Longest side of the lowest resolution. No client asks for a smaller one."""
_PRECINCT_EDGES = (256, 256, 256, 128, 128, 64, 64)
"""In pixels, from the full resolution down."""
_TINY = 64
ONE_PIECE_PIXELS = 64_000_000
"""OpenJPEG needs 27 bytes for each pixel of a tile (measured). Larger images are tiled."""
_TILE = 512


@dataclass(frozen=True, slots=True)
class TileGrid:
    """How an image is divided: width and height of its tiles in pixels, and the number of
    decomposition levels.
    """

    tile_width: int
    tile_height: int
    levels: int


def choose_grid(width: int, height: int, tile: int) -> TileGrid:
    """The grid of an image for a policy's `tile` (0: in one piece, where memory allows)."""
    if not tile and width * height > ONE_PIECE_PIXELS:
        tile = _TILE
    levels, side = 0, max(width, height)
    while side > _LOWEST_RESOLUTION and levels < _MAX_LEVELS:
        side, levels = -(-side // 2), levels + 1
    # OpenJPEG requires that a tile can be halved `levels` times. It may be larger than its image.
    smallest = 1 << (levels + 1)
    return TileGrid(tile or max(width, smallest), tile or max(height, smallest), levels)


def write(
    openjpeg: OpenJpeg,
    image: Any,
    target: Path,
    policy: ConversionPolicy,
    *,
    threads: int = 1,
    on_strip: Callable[[Any], None] | None = None,
) -> None:
    """Write `image` (sRGB or gray, 8 or 16 bits) to `target` by `policy`.

    The image is read once, from the top; `on_strip` is called with each strip of it in memory.
    `target` is complete or does not exist. Raises CodestreamError, VipsError, OSError.
    """
    grid = choose_grid(image.width, image.height, policy.tile)
    by_tile = target.with_name(f"{target.name}.tiles")
    by_resolution = target.with_name(f"{target.name}.part")
    try:
        with _Encoder(openjpeg, image, policy, grid) as encoder:
            encoder.start(by_tile, threads)
            for strip in _read_strips(image, grid.tile_height):
                if on_strip is not None:
                    on_strip(strip)
                for left in range(0, strip.width, grid.tile_width):
                    encoder.write_tile(strip, left)
            encoder.finish()
        reorder.sort_by_resolution(by_tile, by_resolution)
        by_resolution.replace(target)
    finally:
        by_tile.unlink(missing_ok=True)
        by_resolution.unlink(missing_ok=True)


def _read_strips(image: Any, height: int) -> Iterator[Any]:
    """The image in strips of `height` rows, each in memory, from one pass over it.

    One region reads all of them: between two evaluations libvips forgets the rows it has read of
    a strip of the file, and it cannot read them a second time.
    """
    region = vips.Region.new(image)
    for top in range(0, image.height, height):
        rows = min(height, image.height - top)
        body = region.fetch(0, top, image.width, rows)
        strip = vips.Image.new_from_memory(body, image.width, rows, image.bands, image.format)
        yield strip.copy(interpretation=image.interpretation)


class _Encoder:
    """One file that is being written. Its tiles must come in order."""

    def __init__(
        self, openjpeg: OpenJpeg, image: Any, policy: ConversionPolicy, grid: TileGrid
    ) -> None:
        self._ffi, self._lib = openjpeg.ffi, openjpeg.lib
        self._grid = grid
        self._tiles = 0
        self._parameters = _encoder_parameters(openjpeg, image, policy, grid)
        self._stream = self._ffi.NULL
        self._image = _describe_components(openjpeg, image)
        self._codec = self._lib.opj_create_compress(binding.CODEC_JP2)
        self._errors = openjpeg.collect_errors(self._codec)

    def start(self, path: Path, threads: int) -> None:
        """Create the file at `path` and write its header. Raises CodestreamError, OSError."""
        lib, codec, check = self._lib, self._codec, self._errors.check
        path.touch()  # raises an OSError with the reason, which OpenJPEG does not report
        check(lib.opj_setup_encoder(codec, self._parameters, self._image))
        packet_lengths = self._ffi.new("char[]", b"PLT=YES")
        options = self._ffi.new("char *[]", [packet_lengths, self._ffi.NULL])
        check(lib.opj_encoder_set_extra_options(codec, options))
        if threads > 1:
            lib.opj_codec_set_threads(codec, threads)  # if it fails, encoding only takes longer
        self._stream = lib.opj_stream_create_file_stream(
            str(path).encode(), _WRITE_BYTES, binding.STREAM_WRITE
        )
        check(self._stream)
        check(lib.opj_start_compress(codec, self._image, self._stream))

    def write_tile(self, strip: Any, left: int) -> None:
        """Encode the next tile: a column of a strip of tiles. Raises CodestreamError."""
        tile = strip.crop(left, 0, min(self._grid.tile_width, strip.width - left), strip.height)
        planes = tile
        if tile.bands > 1:  # OpenJPEG expects one plane after the other
            planes = vips.Image.arrayjoin(tile.bandsplit(), across=1)
        samples = self._ffi.from_buffer("unsigned char[]", planes.write_to_memory())
        self._errors.check(
            self._lib.opj_write_tile(self._codec, self._tiles, samples, len(samples), self._stream)
        )
        self._tiles += 1

    def finish(self) -> None:
        """Write the end of the file. Raises CodestreamError."""
        self._errors.check(self._lib.opj_end_compress(self._codec, self._stream))

    def close(self) -> None:
        """Release OpenJPEG's objects."""
        if self._stream:
            self._lib.opj_stream_destroy(self._stream)
        if self._codec:
            self._lib.opj_destroy_codec(self._codec)
        if self._image:
            self._lib.opj_image_destroy(self._image)
        self._stream = self._codec = self._image = self._ffi.NULL

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _describe_components(openjpeg: OpenJpeg, image: Any) -> Any:
    """A new opj_image_t: the colour components, then opacity."""
    bits = 16 if image.format == "ushort" else 8
    components = openjpeg.ffi.new("opj_image_cmptparm_t[]", image.bands)
    for n in range(image.bands):
        component = components[n]
        component.dx = component.dy = 1
        component.w, component.h = image.width, image.height
        component.prec = component.bpp = bits
    colours = binding.COLOUR_SRGB if image.bands >= 3 else binding.COLOUR_GRAY
    header = openjpeg.lib.opj_image_tile_create(image.bands, components, colours)
    if not header:
        raise MemoryError
    header.x1, header.y1 = image.width, image.height
    if image.bands in (2, 4):
        header.comps[image.bands - 1].alpha = 1
    return header


def _encoder_parameters(
    openjpeg: OpenJpeg, image: Any, policy: ConversionPolicy, grid: TileGrid
) -> Any:
    parameters = openjpeg.encoder_parameters()
    parameters.tile_size_on = 1
    parameters.cp_tdx, parameters.cp_tdy = grid.tile_width, grid.tile_height
    parameters.tcp_numlayers = 1
    parameters.prog_order = binding.PROGRESSION_RPCL
    parameters.numresolution = parameters.res_spec = grid.levels + 1
    parameters.csty = binding.CODING_STYLE_PRECINCTS
    for n in range(grid.levels + 1):
        edge = _PRECINCT_EDGES[min(n, len(_PRECINCT_EDGES) - 1)]
        parameters.prcw_init[n] = parameters.prch_init[n] = edge
    # In tiny images the lossy encoder misses the requested quality by far. Lossless costs nothing.
    if policy.lossless or min(image.width, image.height) < _TINY:
        parameters.cp_disto_alloc = 1
        parameters.tcp_rates[0] = 0
    else:
        parameters.irreversible = 1
        parameters.cp_fixed_quality = 1
        parameters.tcp_distoratio[0] = policy.psnr
    parameters.tp_on = b"\1"
    parameters.tp_flag = b"R"
    parameters.tcp_mct = b"\1" if image.bands >= 3 else b"\0"
    return parameters
