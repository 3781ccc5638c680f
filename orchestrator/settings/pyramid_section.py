"""The settings of pyramid TIFFs that are made of the pictures in a bucket."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.settings.field_types import Section

Pixels = Annotated[int, Field(ge=0, le=1_000_000)]


class Pyramids(Section):
    """Pyramid TIFFs made by the `pyramid` commands and of the pictures in a bucket. Zero or empty
    means: as the policy says.
    """

    policy: Literal["default", "parity"] = "default"
    """`default`: full size, tiles of 256 pixels, JPEG of quality 90. `parity`: at most 4000 x 4000
    pixels, tiles of 512 pixels, deflate, 11.812 pixels per millimetre, only the first page of a PDF
    at 72 dpi.
    """
    tile: Literal[0, 128, 256, 512, 1024] = 0
    """Edge of a tile in pixels."""
    compression: Literal["", "deflate", "jpeg", "webp", "zstd"] = ""
    """Compression of the tiles. Pictures with transparency are never compressed as JPEG, but by
    deflate.
    """
    quality: Annotated[int, Field(ge=0, le=100)] = 0
    """Quality of JPEG and WebP tiles."""
    lossless: bool = False
    """Keep 16 bits (deflate and zstd), and compress WebP tiles without loss. Instead of JPEG,
    deflate is used.
    """
    resolution: Annotated[float, Field(ge=0)] = 0
    """Resolution to record, in pixels per millimetre. The default policy keeps that of the
    original.
    """
    max_width: Pixels = 0
    """Largest width; larger pictures are reduced."""
    max_height: Pixels = 0
    """Largest height; larger pictures are reduced."""
    copyright_max_width: Pixels = 0
    """Largest width of a picture under copyright (`parity`: 843)."""
    copyright_max_height: Pixels = 0
    """Largest height of a picture under copyright (`parity`: 560)."""
    autorotate: bool = True
    """Store pictures upright; otherwise as they are, with their EXIF orientation."""
    srgb: bool = True
    """Convert colours to sRGB; otherwise they are kept, with their profile."""
    bigtiff: Literal["auto", "always"] = "auto"
    """Write BigTIFF: where a classic TIFF could become too small, or always."""
    subifd: bool = False
    """Store the smaller levels as sub-directories (SubIFD) of the picture, not as pages."""
    pdf_dpi: Annotated[int, Field(ge=0, le=2400)] = 0
    """Resolution in dots per inch at which the pages of a PDF are drawn (`default`: 150)."""
