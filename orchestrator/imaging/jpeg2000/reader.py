"""Regions of a JPEG2000 codestream in one piece, read by OpenJPEG directly (peers.md 2.5).

libvips decodes such a file in squares of 512 pixels and parses it again for each: measured, a view
of 1536 x 1024 pixels costs 270 to 330 ms of processor time through libvips and 130 to 205 ms here,
a whole small level a third. Only plain pictures are read here (`codestream.Codestream.plain`); any
other goes through libvips. The structures are those of libopenjp2.so.7, unchanged since 2.1.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from orchestrator.imaging import vips

_SONAME = "libopenjp2.so.7"
_CODECS = {b"\xff\x4f": 0}
_JP2 = 2
_READ_BYTES = 1024**2
_MESSAGES = 8
_PARAMETER_BYTES = 32 * 1024
"""More than any version's opj_dparameters_t, which the library fills in itself."""


class CodestreamError(Exception):
    """OpenJPEG refused the codestream; the text is its own and for the log only."""


class _Component(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_uint32)
            for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd", "resno", "factor")
        ),
        ("data", ctypes.c_void_p),
        ("alpha", ctypes.c_uint16),
    ]


class ImageHeader(ctypes.Structure):
    """opj_image_t."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("x0", "y0", "x1", "y1", "components")),
        ("colour_space", ctypes.c_int),
        ("comps", ctypes.POINTER(_Component)),
        ("icc", ctypes.c_void_p),
        ("icc_bytes", ctypes.c_uint32),
    ]


Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p)
"""What the library calls with a message."""
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "opj_version": (ctypes.c_char_p, ()),
    "opj_create_decompress": (ctypes.c_void_p, (ctypes.c_int,)),
    "opj_destroy_codec": (None, (ctypes.c_void_p,)),
    "opj_stream_create_file_stream": (
        ctypes.c_void_p,
        (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int),
    ),
    "opj_stream_destroy": (None, (ctypes.c_void_p,)),
    "opj_set_default_decoder_parameters": (None, (ctypes.c_void_p,)),
    "opj_setup_decoder": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
    "opj_set_error_handler": (ctypes.c_int, (ctypes.c_void_p, Handler, ctypes.c_void_p)),
    "opj_read_header": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)),
    "opj_set_decoded_resolution_factor": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_uint32)),
    "opj_set_decode_area": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_void_p, *((ctypes.c_int32,) * 4)),
    ),
    "opj_decode": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)),
    "opj_image_destroy": (None, (ctypes.c_void_p,)),
    "opj_image_data_free": (None, (ctypes.c_void_p,)),
}


def load() -> Any | None:
    """The library with its functions' signatures, or None where there is none to use."""
    try:
        library = ctypes.CDLL(_SONAME)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library if library.opj_version().startswith(b"2.") else None


class Reader:
    """One codestream opened at one reduction; its codec keeps what it parsed and decoded."""

    def __init__(self, library: Any, path: str, reduction: int) -> None:
        """Raises FileNotFoundError, CodestreamError."""
        self._library = library
        self._messages: list[str] = []
        self._handler = Handler(listener(self._messages))
        self._reduction = reduction
        self._size = (0, 0)
        self._codec: int | None = None
        self._image = ctypes.POINTER(ImageHeader)()
        with open(path, "rb") as file:  # noqa: PTH123  its first bytes choose the codec
            kind = _CODECS.get(file.read(2), _JP2)
        self._stream = library.opj_stream_create_file_stream(path.encode(), _READ_BYTES, 1)
        if not self._stream:
            raise FileNotFoundError(path)
        try:
            self._codec = library.opj_create_decompress(kind)
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        library = self._library
        library.opj_set_error_handler(self._codec, self._handler, None)
        parameters = ctypes.create_string_buffer(_PARAMETER_BYTES)
        library.opj_set_default_decoder_parameters(parameters)
        self._must(library.opj_setup_decoder(self._codec, parameters))
        self._must(library.opj_read_header(self._stream, self._codec, ctypes.byref(self._image)))
        # The library writes the area of each decode over these.
        self._size = (self._image.contents.x1, self._image.contents.y1)
        if self._reduction:
            self._must(library.opj_set_decoded_resolution_factor(self._codec, self._reduction))

    def read(self, left: int, top: int, width: int, height: int) -> Any:
        """A rectangle of the reduced picture, in memory, 8 bits. Raises CodestreamError."""
        n = self._reduction
        right, bottom = (left + width) << n, (top + height) << n
        area = (left << n, top << n, min(right, self._size[0]), min(bottom, self._size[1]))
        if not (0 <= area[0] < area[2] and 0 <= area[1] < area[3]):
            raise CodestreamError("an area outside the picture")
        self._must(self._library.opj_set_decode_area(self._codec, self._image, *area))
        self._must(self._library.opj_decode(self._codec, self._stream, self._image))
        try:
            return self._collected(width, height)
        finally:
            self._free()

    def _collected(self, width: int, height: int) -> Any:
        image = self._image.contents
        bands = []
        for component in image.comps[: image.components]:
            if (component.w, component.h) != (width, height) or not component.data:
                raise CodestreamError("a component of another size than asked")
            plane = (ctypes.c_int32 * (width * height)).from_address(component.data)
            bands.append(vips.Image.new_from_memory(memoryview(plane), width, height, 1, "int"))
        joined = bands[0].bandjoin(bands[1:]) if len(bands) > 1 else bands[0]
        colour = "srgb" if len(bands) == 3 else "b-w"
        whole = joined.cast("uchar").copy(interpretation=colour).copy_memory()
        if image.icc and image.icc_bytes:
            vips.attach_profile(whole, ctypes.string_at(image.icc, image.icc_bytes))
        return whole

    def _free(self) -> None:
        """Give the planes back: the next decode would lose them."""
        image = self._image.contents
        for n in range(image.components):
            self._library.opj_image_data_free(image.comps[n].data)
            image.comps[n].data = None

    def _must(self, done: int) -> None:
        if not done:
            raise CodestreamError("; ".join(self._messages) or "OpenJPEG failed")

    def close(self) -> None:
        """Release the codec; the reader is not used again."""
        if self._image:
            self._library.opj_image_destroy(self._image)
        if self._codec:
            self._library.opj_destroy_codec(self._codec)
        if self._stream:
            self._library.opj_stream_destroy(self._stream)
        self._image, self._codec, self._stream = ctypes.POINTER(ImageHeader)(), None, None

    def __del__(self) -> None:
        """An LRU drops readers without a word."""
        self.close()


def listener(messages: list[str]) -> Callable[[bytes, int | None], None]:
    """Keeps the first errors; knows no reader, which could then not be freed at once."""

    def heard(message: bytes, _: int | None) -> None:
        if len(messages) < _MESSAGES:
            messages.append(message.decode(errors="replace").strip())

    return heard
