"""Reads the levels of a TIFF picture in the form that every reader returns: the colour channels,
then at most one alpha channel, straight, 8 or 16 bits, with the orientation of the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import Damaged
from orchestrator.imaging import vips
from orchestrator.imaging.tiff.interpretation import Samples
from orchestrator.imaging.tiff.pyramid import TiffPicture


def load_level(path: str, picture: TiffPicture, n: int, *, access: str = "random") -> Any:
    """Level `n` of the picture. Pixels that libvips reads are read later; others are decoded here,
    which only a decode worker process may do.

    Raises FileNotFoundError, Damaged, Unsupported, TooLarge, VipsError.
    """
    if picture.samples.engine == "libvips":
        image = _declare(open_level(path, picture, n, access=access), picture.samples)
    else:
        # numpy, tifffile and imagecodecs need 10 MB of memory, and few files need them.
        from orchestrator.imaging.tiff import array_reader

        image = array_reader.decode(Path(path), picture)
    return vips.with_orientation(image, picture.orientation)


def open_level(path: str, picture: TiffPicture, n: int, *, access: str = "random") -> Any:
    """Level `n` as libvips opens it. Raises Damaged if libvips finds another size than the
    directory has, VipsError.
    """
    level = picture.levels[n]
    place = {"page": level.page} | ({"subifd": level.subifd} if level.subifd >= 0 else {})
    image = vips.load("tiff", path, access=access, **place)
    if (image.width, image.height) != level.dimensions:
        raise Damaged("The TIFF file is damaged: its directories contradict each other.")
    return image


def _declare(image: Any, samples: Samples) -> Any:
    """`image` without the samples that are neither colour nor alpha. libvips has unmultiplied
    associated alpha and applied palettes and inversions.
    """
    if samples.kind == "palette":
        return image
    if image.bands < samples.colours or (samples.alpha or 0) >= image.bands:
        raise Damaged("The TIFF file is damaged: its directories contradict each other.")
    if samples.bands < image.bands:
        colours = image.extract_band(0, n=samples.colours)
        image = colours if samples.alpha is None else colours.bandjoin(image[samples.alpha])
    if image.interpretation != samples.interpretation:
        image = image.copy(interpretation=samples.interpretation)
    return image
