"""Checks of a TIFF picture that is decoded as a whole, before anything is decoded or allocated."""

from __future__ import annotations

import math
import resource
import struct
from pathlib import Path

from orchestrator.errors import Damaged, TooLarge
from orchestrator.imaging.tiff.directories import TagValues
from orchestrator.imaging.tiff.interpretation import OLD_JPEG
from orchestrator.imaging.tiff.pyramid import TiffPicture

INCOMPLETE = "The TIFF file is incomplete."
_UNLIMITED_BYTES = 4 * 1024**3
"""The memory that is assumed where the process has no limit."""
_MEMORY_SHARE = 2
"""One picture may use this part of the memory of the process."""


def check_decodable(path: Path, picture: TiffPicture) -> None:
    """Raises TooLarge for a picture that the process has no memory for, Damaged if strips or tiles
    are missing, FileNotFoundError. Decodes nothing.
    """
    _check_memory(picture)
    _check_segments(path, picture)


def check_tiles(path: Path, picture: TiffPicture) -> None:
    """Raises Damaged if the file ends before a tile of any level, FileNotFoundError. A pyramid is
    served without a decode of all its tiles, so nothing else notices that.
    """
    size = path.stat().st_size
    for level in picture.levels:
        directory = level.directory
        starts, counts = _read_all(path, directory.offsets), _read_all(path, directory.sizes)
        if any(start + count > size for start, count in zip(starts, counts, strict=False)):
            raise Damaged(INCOMPLETE)


def _check_memory(picture: TiffPicture) -> None:
    """Raises TooLarge if the decoded samples and the result do not fit into memory."""
    directory, samples = picture.directory, picture.samples
    sample_bytes = max(1, 2 ** math.ceil(math.log2(samples.bits / 8))) if samples.bits > 8 else 1
    width, height = directory.dimensions
    count = max(directory.samples.count, 4 if samples.engine == "libtiff" else 1)
    result_bytes = samples.bands * (2 if samples.is_deep else 1)
    needed = width * height * (2 * count * sample_bytes + result_bytes)
    segment = directory.tile[0] * directory.tile[1] * count * sample_bytes
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    available = _UNLIMITED_BYTES if limit == resource.RLIM_INFINITY else limit
    if max(needed, 4 * segment) > available // _MEMORY_SHARE:
        raise TooLarge(
            "The TIFF file needs more memory than one decode may use. "
            "Convert it to 8 or 16 bits for each sample."
        )


def _check_segments(path: Path, picture: TiffPicture) -> None:
    """Raises Damaged if strips or tiles are missing or outside the file: tifffile would fill them
    with black. Planes of samples that are dropped may be missing.
    """
    directory, samples = picture.directory, picture.samples
    size = path.stat().st_size
    if directory.compression == OLD_JPEG and directory.old_jpeg[1] > directory.old_jpeg[0]:
        if directory.old_jpeg[1] > size:
            raise Damaged(INCOMPLETE)
        return
    width, height = directory.dimensions
    across, down = directory.tile if directory.is_tiled else (width, directory.rows_per_strip)
    used = samples.colours if samples.alpha is None else samples.alpha + 1
    planes = used if directory.samples.is_planar else 1
    expected = math.ceil(width / across) * math.ceil(height / max(1, down)) * planes
    offsets = _read_all(path, directory.offsets)
    sizes = _read_all(path, directory.sizes)
    if min(len(offsets), len(sizes)) < expected:
        raise Damaged("The TIFF file is damaged: it does not list all of its samples.")
    pairs = zip(offsets[:expected], sizes[:expected], strict=True)
    if any(count == 0 or start + count > size for start, count in pairs):
        raise Damaged(INCOMPLETE)


def _read_all(path: Path, values: TagValues) -> tuple[int, ...]:
    with path.open("rb") as file:
        file.seek(values.offset)
        data = file.read(min(values.count * struct.calcsize(values.code), path.stat().st_size))
    count = len(data) // struct.calcsize(values.code)
    return struct.unpack_from(f"{values.code[0]}{count}{values.code[1]}", data)
