"""Access to libvips: which loaders may run, how a file is opened, and how its errors are reported.

Every process that decodes calls `restrict` first. We always choose the loader (`sniff`), so libvips
never guesses. Every loader must fail on damaged data: otherwise libvips returns black pixels and
reports success.
"""

from __future__ import annotations

from typing import Any

import pyvips
from pyvips.voperation import concurrency_set

from orchestrator.errors import Damaged, TooLarge, Unprocessable, Unsupported
from orchestrator.imaging.formats.image_metadata import own
from orchestrator.imaging.jpeg2000 import binding as openjpeg
from orchestrator.imaging.recipes import Capabilities, InputFormat
from orchestrator.imaging.vips_messages import limit_messages

Image = pyvips.Image
Region = pyvips.Region
VipsError = pyvips.Error

_CLASSES: dict[InputFormat, str] = {
    "jpeg": "VipsForeignLoadJpeg",
    "png": "VipsForeignLoadPng",
    "gif": "VipsForeignLoadNsgif",
    "webp": "VipsForeignLoadWebp",
    "tiff": "VipsForeignLoadTiff",
    "heif": "VipsForeignLoadHeif",
    "svg": "VipsForeignLoadSvg",
    "pdf": "VipsForeignLoadPdf",
}
_LOADERS: dict[InputFormat, str] = {
    "jpeg": "jpegload",
    "png": "pngload",
    "gif": "gifload",
    "webp": "webpload",
    "tiff": "tiffload",
    "heif": "heifload",
    "svg": "svgload",
    "pdf": "pdfload",
}
_SCRATCH_CLASS = "VipsForeignLoadVips"
_SAVERS = {
    "jpg": "jpegsave_buffer",
    "png": "pngsave_buffer",
    "webp": "webpsave_buffer",
    "tif": "tiffsave_buffer",
    "gif": "gifsave_buffer",
    "avif": "heifsave_buffer",
}
_INCOMPLETE = ("truncated", "premature end", "end of file", "eof", "not enough", "short read")
_UNSUPPORTED = ("not supported", "unsupported", "not implemented", "unimplemented")
_TOO_MANY_PIXELS = "maximum image size"
_OUT_OF_MEMORY = (
    "out of memory",
    "insufficient memory",
    "not enough memory",
    "memory allocation",
    "cannot allocate",
    "unable to allocate",
    "failed to allocate",
    "memory limit",
    "creating thread",
)
"""Words in the errors of decoders. libvips passes them on as one text, without a code."""
TRUSTED: frozenset[InputFormat] = frozenset(("jpeg", "png", "gif", "webp", "tiff"))
"""Formats that may be decoded in any of our processes."""
SANDBOXED: frozenset[InputFormat] = frozenset(("heif", "svg", "pdf"))
"""Formats that libvips may decode only in a decode worker process. JPEG2000 is decoded there, too,
by our own reader: libvips' loader reads and writes outside its buffers for some files.
"""


PALETTE_FIELD = "palette"
"""Metadata that the loaders of libvips 8.15 and later set on an image stored with a palette."""


def restrict(*, sandboxed: bool, threads: int = 1) -> None:
    """Allow only our loaders in this process, disable the operation cache, and use `threads`
    threads for each operation.
    """
    limit_messages()
    pyvips.cache_set_max(0)  # its key is the file name: a replaced file would be served stale
    set_threads(threads)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in TRUSTED | (SANDBOXED if sandboxed else frozenset()):
        pyvips.operation_block_set(_CLASSES[name], False)


def set_threads(threads: int) -> None:
    """Set how many threads one libvips operation of this process may use."""
    concurrency_set(threads)


def load(name: InputFormat, path: str, **options: Any) -> Any:
    """The image at `path`, opened by the loader of format `name`. Pixels are read later. Its
    metadata does not depend on the loader (`image_metadata.own`). Raises VipsError for a broken
    header.
    """
    options.setdefault("fail_on", "error")
    return own(pyvips.Operation.call(_LOADERS[name], path, **options), name)


def load_bytes(name: InputFormat, body: bytes, **options: Any) -> Any:
    """As `load`, from memory. Raises VipsError."""
    options.setdefault("fail_on", "error")
    return own(pyvips.Operation.call(f"{_LOADERS[name]}_buffer", body, **options), name)


def write_scratch(image: Any, path: str) -> Any:
    """Write all pixels of `image` to the file `path` (`*.v`) in libvips' own format, and return
    the image that reads them from there in any order. Raises VipsError.
    """
    image.vipssave(path)
    return load_scratch(path)


def load_scratch(path: str) -> Any:
    """The image in a file of libvips' own format that this process has just written.

    The loader of this format is allowed for this call only: it reads no file of others.
    """
    pyvips.operation_block_set(_SCRATCH_CLASS, False)
    try:
        return pyvips.Operation.call("vipsload", path)
    finally:
        pyvips.operation_block_set(_SCRATCH_CLASS, True)


def with_orientation(image: Any, orientation: int) -> Any:
    """`image` with this EXIF orientation, 1 to 8, whatever its own metadata says."""
    image = image.copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return image


def attach_profile(image: Any, profile: bytes) -> None:
    """Set `profile` (ICC) as the embedded profile of `image`, in place."""
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)


def mark_palette(image: Any) -> None:
    """Set on `image`, in place, that it was stored with a palette, as libvips' loaders do."""
    image.set_type(pyvips.GValue.gint_type, PALETTE_FIELD, 1)


def as_public_error(error: Exception, path: str = "") -> Unprocessable | TooLarge:
    """The error for clients when libvips refuses the file at `path`. It never has the text of
    libvips, which contains the path. The words of the path do not decide.
    """
    text = str(error).replace(path or "\0", "").lower()
    if _TOO_MANY_PIXELS in text:
        return TooLarge(
            "The image is larger than its decoder allows. Use a smaller image or another format."
        )
    if any(words in text for words in _OUT_OF_MEMORY):
        return TooLarge("The image needs more memory than one decode may use.")
    if any(words in text for words in _INCOMPLETE):
        return Damaged("The image file is incomplete.")
    if any(words in text for words in _UNSUPPORTED):
        return Unsupported(
            "The image file uses a feature that its decoder does not support. "
            "Convert it to an 8-bit TIFF, PNG or JPEG."
        )
    return Damaged("The image file is damaged and cannot be decoded.")


def forget_errors() -> None:
    """Forget the messages of earlier operations of this process. libvips keeps those that no error
    has reported, and puts them into the text of the next error, which may be of another file.
    """
    pyvips.vips_lib.vips_error_clear()


def capabilities() -> Capabilities:
    """What this process reads and writes. Each output is tried: libheif may lack an AV1 encoder."""
    has_openjpeg = openjpeg.load() is not None
    inputs = tuple(
        name for name, nick in _LOADERS.items() if pyvips.type_find("VipsForeignLoad", nick)
    )
    inputs += ("jpeg2000",) if has_openjpeg else ()
    outputs = tuple(name for name, nick in _SAVERS.items() if _can_save(name, nick))
    missing: list[str] = [name for name in _LOADERS if name not in inputs]
    missing += [name for name in _SAVERS if name not in outputs]
    if not has_openjpeg:
        missing.append("OpenJPEG")
    version = ".".join(str(pyvips.version(n)) for n in range(3))
    return Capabilities(version, inputs, outputs, tuple(missing))


def _can_save(name: str, nickname: str) -> bool:
    if not pyvips.type_find("VipsForeignSave", nickname):
        return False
    options = {"compression": "av1"} if name == "avif" else {}
    try:
        pyvips.Image.black(16, 16, bands=3).write_to_buffer(f".{name}", **options)
    except pyvips.Error:
        return False
    return True
