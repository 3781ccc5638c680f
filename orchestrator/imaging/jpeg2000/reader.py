"""Regions of a JPEG2000 codestream, decoded by OpenJPEG directly.

libvips decodes an untiled file in squares of 512 pixels and parses the file again for each square.
Measured: a view of 1536 x 1024 pixels costs 270 to 330 ms of processor time through libvips and
130 to 205 ms here; a whole small level costs a third. Only files whose samples are the pixels
(`codestream.Codestream.plain`) are decoded here. All others go through libvips.
"""

from __future__ import annotations

from typing import Any

from orchestrator.imaging import vips
from orchestrator.imaging.jpeg2000 import binding
from orchestrator.imaging.jpeg2000.binding import CodestreamError, OpenJpeg

_CODESTREAM_START = b"\xff\x4f"
_READ_BYTES = 1024**2


class Reader:
    """One file opened at one reduction. Its codec keeps what it parsed and decoded."""

    def __init__(self, openjpeg: OpenJpeg, path: str, reduction: int) -> None:
        """Raises FileNotFoundError, CodestreamError."""
        self._ffi, self._lib = openjpeg.ffi, openjpeg.lib
        self._reduction = reduction
        self._image = self._ffi.new("opj_image_t **")
        self._codec = self._stream = self._ffi.NULL
        with open(path, "rb") as file:  # noqa: PTH123  its first bytes choose the codec
            is_bare = file.read(2) == _CODESTREAM_START
        self._stream = self._lib.opj_stream_create_file_stream(
            path.encode(), _READ_BYTES, binding.STREAM_READ
        )
        if not self._stream:
            raise FileNotFoundError(path)
        try:
            self._open(openjpeg, binding.CODEC_J2K if is_bare else binding.CODEC_JP2)
        except BaseException:  # releases the codec, whatever happened, and raises again
            self.close()
            raise

    def _open(self, openjpeg: OpenJpeg, codec_format: int) -> None:
        lib = self._lib
        self._codec = lib.opj_create_decompress(codec_format)
        self._errors = openjpeg.collect_errors(self._codec)
        check = self._errors.check
        check(lib.opj_setup_decoder(self._codec, openjpeg.decoder_parameters()))
        check(lib.opj_read_header(self._stream, self._codec, self._image))
        # Each decode overwrites these with its own area.
        self._size = (self._image[0].x1, self._image[0].y1)
        if self._reduction:
            check(lib.opj_set_decoded_resolution_factor(self._codec, self._reduction))

    def read(self, left: int, top: int, width: int, height: int) -> Any:
        """A rectangle of the reduced image, in memory, 8 bits. Raises CodestreamError."""
        n = self._reduction
        right, bottom = (left + width) << n, (top + height) << n
        area = (left << n, top << n, min(right, self._size[0]), min(bottom, self._size[1]))
        if not (0 <= area[0] < area[2] and 0 <= area[1] < area[3]):
            raise CodestreamError("the area is outside the image")
        image, check = self._image[0], self._errors.check
        check(self._lib.opj_set_decode_area(self._codec, image, *area))
        check(self._lib.opj_decode(self._codec, self._stream, image))
        try:
            return self._copy_pixels(width, height)
        finally:
            self._free_planes()

    def _copy_pixels(self, width: int, height: int) -> Any:
        """The decoded planes as one libvips image that owns its memory."""
        image = self._image[0]
        bands = []
        for n in range(image.numcomps):
            component = image.comps[n]
            if (component.w, component.h) != (width, height) or not component.data:
                raise CodestreamError("a component has another size than the requested area")
            plane = self._ffi.buffer(component.data, 4 * width * height)
            bands.append(vips.Image.new_from_memory(plane, width, height, 1, "int"))
        joined = bands[0].bandjoin(bands[1:]) if len(bands) > 1 else bands[0]
        interpretation = "srgb" if len(bands) == 3 else "b-w"
        pixels = joined.cast("uchar").copy(interpretation=interpretation).copy_memory()
        if image.icc_profile_buf and image.icc_profile_len:
            profile = self._ffi.buffer(image.icc_profile_buf, image.icc_profile_len)[:]
            vips.attach_profile(pixels, profile)
        return pixels

    def _free_planes(self) -> None:
        """Free the decoded planes: the next decode replaces the pointers without freeing them."""
        image = self._image[0]
        for n in range(image.numcomps):
            self._lib.opj_image_data_free(image.comps[n].data)
            image.comps[n].data = self._ffi.NULL

    def close(self) -> None:
        """Release the codec. The reader cannot be used afterwards."""
        if self._image[0]:
            self._lib.opj_image_destroy(self._image[0])
        if self._codec:
            self._lib.opj_destroy_codec(self._codec)
        if self._stream:
            self._lib.opj_stream_destroy(self._stream)
        self._image[0] = self._codec = self._stream = self._ffi.NULL

    def __del__(self) -> None:
        """Close the reader when a cache drops it."""
        self.close()
