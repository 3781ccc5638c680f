"""The form of the requests to image servers. Pure."""

from __future__ import annotations

from orchestrator.iiif.geometry import ResolvedImage, rotation_text
from orchestrator.iiif.scale import scaled


def request_path(image: ResolvedImage) -> str:
    """The IIIF parameters of a resolved image in the form that image servers answer fast: `w,` or
    `,h` if it gives the same size.
    """
    x, y, region_width, region_height = image.region
    width, height = image.size
    region = "full" if image.full_region else f"{x},{y},{region_width},{region_height}"
    size = f"{width},{height}"
    if scaled(region_height, width, region_width) == height:
        size = f"{width},"
    elif scaled(region_width, height, region_height) == width:
        size = f",{height}"
    rotation = rotation_text(image.mirror, image.rotation)
    return f"{region}/{size}/{rotation}/{image.quality}.{image.format}"
