"""OpenJPEG's encoder: writes the tiles of one JPEG2000 file, which come in order.

Each resolution of each tile is a tile-part of its own, with packet lengths (PLT). An image has one
or three components of 8 or 16 bits, and possibly an opacity channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.binding import OpenJpeg

_WRITE_BYTES = 1024**2
_PRECINCT_EDGES = (256, 256, 256, 128, 128, 64, 64)
"""In pixels, from the full resolution down."""


Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""An array of (rows, columns, bands)."""


@dataclass(frozen=True, slots=True)
class ImageForm:
    """Width and height of an image in pixels, its bands, and the bits of a sample: 8 or 16."""

    width: int
    height: int
    bands: int
    bits: int


@dataclass(frozen=True, slots=True)
class TileGrid:
    """How an image is divided: width and height of its tiles in pixels, and the number of
    decomposition levels.
    """

    tile_width: int
    tile_height: int
    levels: int


class Encoder:
    """One file that is being written. Its tiles must come in order."""

    def __init__(
        self,
        openjpeg: OpenJpeg,
        image: ImageForm,
        grid: TileGrid,
        psnr: float | None,
        *,
        origin: tuple[int, int] = (0, 0),
        lossless: bool = False,
    ) -> None:
        """For `image`, whose upper left pixel is at `origin` of the reference grid, where a tile
        begins. `psnr` is in dB; None keeps all that is left after quantisation.
        """
        self._ffi, self._lib = openjpeg.ffi, openjpeg.lib
        self.tiles = 0
        """How many tiles have been written."""
        self._parameters = _encoder_parameters(openjpeg, image, grid, psnr, lossless=lossless)
        self._parameters.cp_tx0, self._parameters.cp_ty0 = origin
        self._stream = self._ffi.NULL
        self._image = _describe_components(openjpeg, image, origin)
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

    def write_tile(self, tile: Pixels) -> None:
        """Encode the next tile. Raises CodestreamError."""
        # OpenJPEG expects one plane after the other.
        planes = np.ascontiguousarray(tile.transpose(2, 0, 1))
        samples = self._ffi.from_buffer("unsigned char[]", planes)
        self._errors.check(
            self._lib.opj_write_tile(self._codec, self.tiles, samples, len(samples), self._stream)
        )
        self.tiles += 1

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

    def __enter__(self) -> Encoder:
        """The encoder itself; it is closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release OpenJPEG's objects."""
        self.close()


def _describe_components(openjpeg: OpenJpeg, image: ImageForm, origin: tuple[int, int]) -> Any:
    """A new opj_image_t: the colour components, then opacity."""
    components = openjpeg.ffi.new("opj_image_cmptparm_t[]", image.bands)
    for n in range(image.bands):
        component = components[n]
        component.dx = component.dy = 1
        component.w, component.h = image.width, image.height
        component.prec = component.bpp = image.bits
    colours = binding.COLOUR_SRGB if image.bands >= 3 else binding.COLOUR_GRAY
    header = openjpeg.lib.opj_image_tile_create(image.bands, components, colours)
    if not header:
        raise MemoryError
    header.x0, header.y0 = origin
    header.x1, header.y1 = origin[0] + image.width, origin[1] + image.height
    if image.bands in (2, 4):
        header.comps[image.bands - 1].alpha = 1
    return header


def _encoder_parameters(
    openjpeg: OpenJpeg, image: ImageForm, grid: TileGrid, psnr: float | None, *, lossless: bool
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
    parameters.irreversible = 0 if lossless else 1
    if lossless or psnr is None:
        parameters.cp_disto_alloc = 1
        parameters.tcp_rates[0] = 0
    else:
        parameters.cp_fixed_quality = 1
        parameters.tcp_distoratio[0] = psnr
    parameters.tp_on = b"\1"
    parameters.tp_flag = b"R"
    parameters.tcp_mct = b"\1" if image.bands >= 3 else b"\0"
    return parameters
