"""Decodes TIFF pictures that libvips does not read right, as a whole: by tifffile and imagecodecs,
or by the RGBA interface of the libtiff in imagecodecs.

Imported in decode worker processes only, when a file needs it. The memory is estimated before it is
allocated. What these libraries log is dropped; what they raise becomes Damaged or Unsupported.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from orchestrator.errors import Damaged, OrchestratorError, Unsupported
from orchestrator.imaging import vips
from orchestrator.imaging.tiff.declared_form import declare
from orchestrator.imaging.tiff.directories import Directory
from orchestrator.imaging.tiff.interpretation import JPEG2000S, OLD_JPEG, YCC_JPEG2000
from orchestrator.imaging.tiff.preflight import INCOMPLETE, check_decodable
from orchestrator.imaging.tiff.pyramid import TiffPicture

_DAMAGED = "The TIFF file is damaged: its samples cannot be decoded."
_ORIENTATION_TAG = 274


def decode(path: Path, picture: TiffPicture) -> Any:
    """The picture at full scale in declared form, as a libvips image in memory.

    Raises FileNotFoundError, Damaged, Unsupported, TooLarge, MemoryError.
    """
    samples, directory = picture.samples, picture.directory
    width, height = directory.dimensions
    check_decodable(path, picture)
    with _translate_errors():
        if samples.engine == "libtiff":
            pixels, profile = _decode_by_libtiff(path, picture), b""
        else:
            pixels, profile = _decode_by_tifffile(path, picture)
    image = vips.Image.new_from_memory(
        pixels.data, width, height, pixels.shape[2], "ushort" if samples.is_deep else "uchar"
    ).copy(interpretation=samples.interpretation)
    if profile and samples.kind not in ("lab", "icclab"):
        vips.attach_profile(image, profile)
    return image


def _decode_by_tifffile(path: Path, picture: TiffPicture) -> tuple[NDArray[Any], bytes]:
    """(the pixels in declared form, the ICC profile or b"")."""
    level, directory, samples = picture.levels[0], picture.directory, picture.samples
    width, height = directory.dimensions
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[level.page]
        if level.subifd >= 0:
            page = page.pages[level.subifd]
        array = page.asarray(maxworkers=1)
        colour_map = page.colormap if samples.kind == "palette" else None
        no_data = float(page.nodata) if 42113 in page.tags else None
        profile = bytes(page.iccprofile or b"")
    count = directory.samples.count
    if directory.samples.is_planar:
        array = np.moveaxis(array.reshape(count, height, width), 0, -1)
    array = array.reshape(height, width, count)
    if samples.kind == "palette" and colour_map is None:
        raise Damaged(_DAMAGED)
    is_jpeg2000 = directory.compression in JPEG2000S
    if directory.compression == YCC_JPEG2000 or (samples.kind == "ycbcr" and is_jpeg2000):
        array = _ycbcr_to_rgb(array, 2**samples.bits - 1)
    result = declare(array, samples, directory, colour_map=colour_map, no_data=no_data)
    return np.ascontiguousarray(result), profile


def _ycbcr_to_rgb(array: NDArray[Any], top: int) -> NDArray[Any]:
    """ITU-R BT.601 with the full range, as in JPEG 2000 inside TIFF (Aperio)."""
    y, blue, red = (array[..., n].astype(np.float32) for n in range(3))
    blue, red = blue - (top + 1) / 2, red - (top + 1) / 2
    rgb = np.stack((y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue), -1)
    converted = np.clip(np.rint(rgb), 0, top).astype(array.dtype)
    return np.concatenate((converted, array[..., 3:]), axis=-1)


def _decode_by_libtiff(path: Path, picture: TiffPicture) -> NDArray[Any]:
    """(rows, columns, 1 or 3) of 8 bits. libtiff mirrors what an orientation of 2 to 4 says, so the
    orientation is removed from the copy in memory.
    """
    level = picture.levels[0]
    if level.subifd >= 0:
        raise Unsupported("TIFF files with old-style JPEG in a sub-directory are not supported.")
    body = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[level.page]
        tag = page.tags.get(_ORIENTATION_TAG)
        if tag is not None:
            struct.pack_into(file.byteorder + "H", body, tag.valueoffset, 1)
        if picture.directory.compression != OLD_JPEG:
            _check_decoded_sizes(page, picture.directory)
    decoded = imagecodecs.tiff_decode(bytes(body), index=level.page, asrgb=True)
    width, height = picture.dimensions
    if decoded.shape != (height, width, 4):
        raise Damaged(_DAMAGED)
    return np.ascontiguousarray(decoded[..., : picture.samples.colours])


def _check_decoded_sizes(page: Any, directory: Directory) -> None:
    """Raises Damaged if a strip or tile of YCbCr is too short: libtiff would leave it black."""
    (horizontal, vertical), (width, height) = directory.subsampling, directory.dimensions
    if horizontal not in (1, 2, 4) or vertical not in (1, 2, 4):
        raise Damaged(_DAMAGED)
    rows = directory.rows_per_strip or height
    across, down = directory.tile if directory.is_tiled else (width, rows)
    for n, (data, _) in enumerate(
        page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts)
    ):
        decoded = (
            data if page.compression == 1 else tifffile.TIFF.DECOMPRESSORS[page.compression](data)
        )
        lines = down if directory.is_tiled else min(rows, height - n * rows)
        units = math.ceil(across / horizontal) * math.ceil(lines / vertical)
        if len(decoded) < units * (horizontal * vertical + 2):
            raise Damaged(INCOMPLETE)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Silence tifffile and numpy, and translate what they raise."""
    logger = logging.getLogger("tifffile")
    logger.disabled = True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except (OrchestratorError, OSError, MemoryError):
        raise
    except (NotImplementedError, ImportError) as error:
        raise Unsupported(
            "TIFF files with this compression and these samples are not supported. "
            "Convert the file to RGB or gray with 8 or 16 bits for each sample."
        ) from error
    except Exception as error:  # dozens of codecs, each with errors of its own
        raise Damaged(_DAMAGED) from error
