"""The only door to libvips: which loaders may run, how a file is opened, and how its errors read.

Every process that decodes calls `restrict` first. A loader is always named by us (`sniff`), so
libvips never guesses, and every one is told to fail on damage: without that, broken data comes back
as black pixels and success.
"""

from __future__ import annotations

from typing import Any

import pyvips
from pyvips.voperation import concurrency_set

from orchestrator.errors import Unprocessable
from orchestrator.imaging.recipes import Capabilities, InputFormat

Image = pyvips.Image
Region = pyvips.Region
VipsError = pyvips.Error

_CLASSES: dict[InputFormat, str] = {
    "jpeg": "VipsForeignLoadJpeg",
    "png": "VipsForeignLoadPng",
    "gif": "VipsForeignLoadNsgif",
    "webp": "VipsForeignLoadWebp",
    "tiff": "VipsForeignLoadTiff",
    "jpeg2000": "VipsForeignLoadJp2k",
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
    "jpeg2000": "jp2kload",
    "heif": "heifload",
    "svg": "svgload",
    "pdf": "pdfload",
}
_SAVERS = {
    "jpg": "jpegsave_buffer",
    "png": "pngsave_buffer",
    "webp": "webpsave_buffer",
    "tif": "tiffsave_buffer",
    "gif": "gifsave_buffer",
    "avif": "heifsave_buffer",
}
TRUSTED: frozenset[InputFormat] = frozenset(("jpeg", "png", "gif", "webp", "tiff"))
"""Formats that may be decoded in any process of ours."""
SANDBOXED: frozenset[InputFormat] = frozenset(("jpeg2000", "heif", "svg", "pdf"))
"""Formats that may be decoded in a decode worker process only."""


def restrict(*, sandboxed: bool, threads: int = 1) -> None:
    """Allow only the loaders of our list in this process, keep no operation cache, use `threads`
    threads an operation.
    """
    pyvips.cache_set_max(0)  # it is keyed by file name: a replaced file would be served stale
    set_threads(threads)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in TRUSTED | (SANDBOXED if sandboxed else frozenset()):
        pyvips.operation_block_set(_CLASSES[name], False)


def set_threads(threads: int) -> None:
    """How many threads one libvips operation of this process may use."""
    concurrency_set(threads)


def load(name: InputFormat, path: str, **options: Any) -> Any:
    """The image at `path`, read by the loader of `name`; pixels come later. Raises VipsError for a
    broken header.
    """
    options.setdefault("fail_on", "error")
    return pyvips.Operation.call(_LOADERS[name], path, **options)


def load_bytes(name: InputFormat, body: bytes, **options: Any) -> Any:
    """The same from memory. Raises VipsError."""
    options.setdefault("fail_on", "error")
    return pyvips.Operation.call(f"{_LOADERS[name]}_buffer", body, **options)


def attach_profile(image: Any, profile: bytes) -> None:
    """Make `profile` (ICC) the embedded one of `image`, in place."""
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)


def broken(error: Exception) -> Unprocessable:
    """What the world is told when libvips refuses: never its own text, which holds paths."""
    text = str(error).lower()
    if any(
        word in text
        for word in ("truncated", "premature end", "end of file", "eof", "not enough", "short read")
    ):
        return Unprocessable("The image file is cut short.")
    return Unprocessable("The image file is damaged and cannot be decoded.")


def capabilities() -> Capabilities:
    """What this process reads and writes; AVIF is tried, for libheif may lack an AV1 encoder."""
    inputs = tuple(
        name for name, nick in _LOADERS.items() if pyvips.type_find("VipsForeignLoad", nick)
    )
    outputs = tuple(name for name, nick in _SAVERS.items() if _saves(name, nick))
    missing = tuple(n for n in _LOADERS if n not in inputs) + tuple(
        n for n in _SAVERS if n not in outputs
    )
    return Capabilities(
        ".".join(str(pyvips.version(n)) for n in range(3)), inputs, outputs, missing
    )


def _saves(name: str, nickname: str) -> bool:
    if not pyvips.type_find("VipsForeignSave", nickname):
        return False
    options = {"compression": "av1"} if name == "avif" else {}
    try:
        pyvips.Image.black(16, 16, bands=3).write_to_buffer(f".{name}", **options)
    except pyvips.Error:
        return False
    return True
