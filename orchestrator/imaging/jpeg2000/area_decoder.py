"""Decodes areas of one assembled codestream with OpenJPEG, and checks what it returns.

The size, the precision and the sign of each decoded component are compared with the header and the
requested area before its memory is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.assembled_stream import AssembledStream
from orchestrator.imaging.jpeg2000.binding import CodestreamError, OpenJpeg
from orchestrator.imaging.jpeg2000.codestream import Area, Codestream, Component
from orchestrator.imaging.jpeg2000.pieces import Piece

_BUFFER_BYTES = 256 * 1024


class Plane(NamedTuple):
    """The samples of one component: a buffer of int32 in OpenJPEG's memory, row by row."""

    samples: Any
    width: int
    height: int

    def as_image(self) -> Any:
        """An image of int that reads the same memory."""
        return vips.Image.new_from_memory(self.samples, self.width, self.height, 1, "int")


class AreaDecoder:
    """One codec with one stream, at one reduction. It keeps what it parsed. A codec of several
    tiles decodes one area only. A codec of one tile decodes any number that are not the whole
    image.
    """

    def __init__(
        self,
        openjpeg: OpenJpeg,
        stream: Codestream,
        file: BinaryIO,
        pieces: Sequence[Piece],
        n: int,
    ) -> None:
        """`pieces` are those that `Assembler.assemble` makes of the open `file` for reduction `n`.
        The decoder closes the file. Raises CodestreamError, Damaged.
        """
        self._openjpeg, self._ffi, self._lib = openjpeg, openjpeg.ffi, openjpeg.lib
        self._header, self._reduction = stream, n
        self._image = self._ffi.new("opj_image_t **")
        self._codec = self._stream = self._ffi.NULL
        self._file = file
        try:
            self._open(AssembledStream(file.fileno(), pieces))
        except BaseException:  # releases the codec, whatever happened, and raises again
            self.close()
            raise

    def _open(self, source: AssembledStream) -> None:
        lib, openjpeg = self._lib, self._openjpeg
        self._stream, self._handle = openjpeg.open_stream(source, min(_BUFFER_BYTES, source.size))
        self._codec = lib.opj_create_decompress(binding.CODEC_J2K)
        self._errors = openjpeg.collect_errors(self._codec)
        check = self._errors.check
        check(lib.opj_setup_decoder(self._codec, openjpeg.decoder_parameters()))
        openjpeg.require_strict_decoding(self._codec)
        check(lib.opj_read_header(self._stream, self._codec, self._image))
        if self._reduction:
            check(lib.opj_set_decoded_resolution_factor(self._codec, self._reduction))

    @contextmanager
    def decode(self, area: Area, components: Iterable[int]) -> Iterator[dict[int, Plane]]:
        """The samples of these components in `area` (of the reference grid), which are valid inside
        the block only. Raises CodestreamError.
        """
        image, check = self._image[0], self._errors.check
        check(self._lib.opj_set_decode_area(self._codec, image, *area))
        try:
            check(self._lib.opj_decode(self._codec, self._stream, image))
            if image.numcomps != len(self._header.components):
                raise CodestreamError("the decoder returned another number of components")
            yield {number: self._plane(number, area) for number in components}
        finally:
            self._free_planes()

    def _plane(self, number: int, area: Area) -> Plane:
        expected, component = self._header.components[number], self._image[0].comps[number]
        width, height = self._size_of(expected, area)
        if (component.w, component.h) != (width, height) or not component.data:
            raise CodestreamError("a component has another size than the requested area")
        if (component.prec, bool(component.sgnd)) != (expected.bits, expected.signed):
            raise CodestreamError("a component has another precision than the header says")
        return Plane(self._ffi.buffer(component.data, 4 * width * height), width, height)

    def _size_of(self, component: Component, area: Area) -> tuple[int, int]:
        """(width, height) of the samples of a component in `area`."""
        left, top, right, bottom = area
        columns = first_sample(right, component.dx, self._reduction) - first_sample(
            left, component.dx, self._reduction
        )
        rows = first_sample(bottom, component.dy, self._reduction) - first_sample(
            top, component.dy, self._reduction
        )
        if columns < 1 or rows < 1:
            raise CodestreamError("a component has no samples in the requested area")
        return columns, rows

    def _free_planes(self) -> None:
        """Free the decoded planes: the next decode replaces the pointers without freeing them."""
        image = self._image[0]
        for n in range(image.numcomps):
            self._lib.opj_image_data_free(image.comps[n].data)
            image.comps[n].data = self._ffi.NULL

    def close(self) -> None:
        """Release the codec and the file. The decoder cannot be used afterwards."""
        if self._image[0]:
            self._lib.opj_image_destroy(self._image[0])
        if self._codec:
            self._lib.opj_destroy_codec(self._codec)
        if self._stream:
            self._lib.opj_stream_destroy(self._stream)
        self._file.close()
        self._image[0] = self._codec = self._stream = self._ffi.NULL

    def __del__(self) -> None:
        """Close the decoder when its reader drops it."""
        if hasattr(self, "_file"):
            self.close()


def first_sample(position: int, step: int, n: int) -> int:
    """The number of the first sample of a component at or after `position` on the reference grid,
    at reduction `n` (ISO/IEC 15444-1, B.2 and B.5).
    """
    samples = -(-position // step)
    return -(-samples >> n)
