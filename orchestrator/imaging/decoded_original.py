"""Decodes an original completely, before anything is made of it.

libvips' savers must not see a decoding error: with several threads they may miss it and write a
picture with white areas, and `tiffsave` ends the process. So one thread decodes all pixels first,
from the top. The same file therefore has the same verdict each time, with any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.imaging import vips
from orchestrator.imaging.formats.loaders import load_picture
from orchestrator.imaging.jpeg2000.whole_picture import load_whole
from orchestrator.imaging.recipes import Probe

IN_MEMORY_BYTES = 128 * 1024**2
"""Decoded pixels beyond this go to a scratch file, so that a conversion stays below 300 MB."""
_SAMPLE_BYTES = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "double": 8, "complex": 8}


def load_decoded(
    path: Path, original: Probe, scratch: Path, *, upright: bool = True, **options: Any
) -> Any:
    """The picture at `path`, oriented if `upright`, with all its pixels in memory or in the file
    `scratch` (`*.v`). They can be read in any order; the caller removes the file after its last
    use. `options` are those of the loader.

    Raises VipsError or CodestreamError if any part cannot be decoded.
    """
    if original.format == "jpeg2000":
        return load_whole(path, scratch)
    vips.set_threads(1)
    image = spool(load_first_in_order(path, original, **options), scratch)
    return image.autorot() if upright and original.orientation != 1 else image


def load_resized(
    path: Path, original: Probe, scratch: Path, change: Callable[[Any], Any], **options: Any
) -> Any:
    """The picture at `path` as it is stored, resized by `change`, with all its pixels in memory or
    in files beside `scratch`. Only the result and JPEG2000 are kept whole. Raises as
    `load_decoded`.
    """
    if original.format == "jpeg2000":
        image = load_whole(path, scratch)
    else:
        vips.set_threads(1)
        image = load_first_in_order(path, original, **options)
    return spool(change(image), resized_scratch(scratch))


def resized_scratch(scratch: Path) -> Path:
    """The second file that `load_resized` may write."""
    return scratch.with_name(f"resized-{scratch.name}")


def load_in_order(path: Path, original: Probe, scratch: Path) -> Any:
    """As `load_decoded`, for a caller that reads each row once, from the top, on one thread: it
    receives the decoding errors. Only JPEG2000, and a picture that must be turned, use `scratch`.
    """
    if original.orientation != 1 or original.format == "jpeg2000":
        return load_decoded(path, original, scratch)
    return load_first_in_order(path, original)


def load_first_in_order(path: Path, original: Probe, **options: Any) -> Any:
    """The first page of the picture as it is stored, to be read once from the top."""
    return load_picture(original.format, str(path), access="sequential", **options)


def spool(image: Any, scratch: Path) -> Any:
    """`image` with its pixels in memory if they are few, otherwise in the file `scratch`. Raises
    VipsError.
    """
    if decoded_bytes(image) <= IN_MEMORY_BYTES:
        return image.copy_memory()
    return vips.write_scratch(image, str(scratch))


def decoded_bytes(image: Any) -> int:
    """The bytes that all pixels of `image` take."""
    pixels = int(image.width) * int(image.height) * int(image.bands)
    return pixels * _SAMPLE_BYTES.get(image.format, 4)


def scratch_bytes(original: Probe) -> int:
    """The bytes that `load_decoded` writes to its scratch file, at most."""
    sample_bytes = -(-original.bits // 8)
    pixels = original.width * original.height * original.bands * sample_bytes
    return pixels if pixels > IN_MEMORY_BYTES else 0
