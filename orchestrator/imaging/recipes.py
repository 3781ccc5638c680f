"""What is asked of the imaging workers and what they answer: frozen, picklable values without
libvips.

A recipe is complete: all arithmetic of the IIIF Image API is done before it is made
(`iiif/geometry.py`), so a worker never decides a size. The one invariant: `region` lies inside
`dimensions`, and `size` is exactly what comes out before rotation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.model import Dimensions, SourceKind

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the oriented image at full scale."""

Quality = Literal["default", "color", "gray", "bitonal"]
OutputFormat = Literal["jpg", "png", "webp", "tif", "gif", "avif"]
InputFormat = Literal["jpeg", "png", "tiff", "jpeg2000", "gif", "webp", "heif", "svg", "pdf"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Lossy quality by format, 1 to 100."""

    jpeg_quality: int = 80
    webp_quality: int = 80
    avif_quality: int = 55


@dataclass(frozen=True, slots=True)
class Recipe:
    """One derivative of one source file. `dimensions` and `levels` are what the probe said;
    `rotation` is clockwise.
    """

    path: str
    kind: SourceKind
    dimensions: Dimensions
    levels: int
    region: Region
    size: Dimensions
    mirror: bool = False
    rotation: float = 0.0
    quality: str = "default"
    format: str = "jpg"
    encoder: Encoder = field(default_factory=Encoder)

    @property
    def full_region(self) -> bool:
        """True if the region is the whole image."""
        return self.region == (0, 0, *self.dimensions)

    @property
    def reduction(self) -> int:
        """How many halvings of the source still hold at least `size` pixels."""
        return reduction(self.region[2:], self.size, self.levels)

    @property
    def decoded_pixels(self) -> int:
        """Pixels read at that reduction: what the request costs, near enough to choose a lane."""
        return (self.region[2] * self.region[3]) >> (2 * self.reduction)


def reduction(region: Dimensions, size: Dimensions, levels: int) -> int:
    """The largest n <= levels with ceil(region / 2**n) >= size on both axes (peers.md 2.8).

    Rounding up keeps the last tile of a row, whose size is rounded up too, on the level of its
    neighbours; `w,` and `w,h` of one tile therefore read the same level.
    """
    best = 0
    for n in range(1, levels + 1):
        if any(-(-full >> n) < wanted for full, wanted in zip(region, size, strict=True)):
            break
        best = n
    return best


@dataclass(frozen=True, slots=True)
class Probe:
    """What the headers of a picture say; width and height in pixels after EXIF orientation.

    `tile_width`, `tile_height` and `levels` are what an info document should advertise: those of
    the file where it is tile-ready (`kind` is not ORIGINAL), else those of the pyramid that the
    `fastest` policy would make of it.
    """

    width: int
    height: int
    format: InputFormat
    media_type: str
    extension: str
    kind: SourceKind
    tile_width: int
    tile_height: int
    levels: int
    natively_tiled: bool = False
    pages: int = 1
    bands: int = 3
    bits: int = 8
    has_alpha: bool = False
    orientation: int = 1

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels, oriented."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class ConversionPolicy:
    """How an original becomes a tile-ready source. `tile` is the edge in pixels, 0 for a codestream
    in one piece; `quality` that of JPEG tiles, `psnr` that of lossy JPEG2000 in dB.
    """

    name: str
    kind: SourceKind
    extension: str
    media_type: str
    tile: int
    quality: int = 90
    psnr: float = 0.0
    lossless: bool = False

    @property
    def advertised_tile(self) -> int:
        """The edge of the tiles an info document offers of what is made."""
        return self.tile or UNTILED_TILE

    def changed(self, **changes: Any) -> ConversionPolicy:
        """The same policy but for `changes`."""
        return replace(self, **changes)


MAX_SIDE = 1_000_000
"""Longest edge in pixels of a picture that is taken in."""
UNTILED_TILE = 512
"""What is advertised for a codestream in one piece: two 256-pixel tiles decode as long as one of
512.
"""

FASTEST = ConversionPolicy(
    name="fastest",
    kind=SourceKind.PYRAMID_TIFF,
    extension="tif",
    media_type="image/tiff",
    tile=256,
    quality=90,
)
"""Pyramid TIFF of 256-pixel JPEG tiles: what serves fastest. Pictures with transparency are kept
lossless (deflate).
"""


def decibels(quality: int) -> float:
    """The peak signal-to-noise ratio in dB that stands for a JPEG2000 quality of 1 to 100."""
    return 25 + quality / 4


JPEG2000_LOSSY = ConversionPolicy(
    name="fast-lossy",
    kind=SourceKind.JPEG2000,
    extension="jp2",
    media_type="image/jp2",
    tile=512,
    psnr=45,
)
"""JPEG2000, lossy: small, and not to be told from the original on a screen."""

JPEG2000_LOSSLESS = JPEG2000_LOSSY.changed(name="max-quality", psnr=0.0, lossless=True)
"""JPEG2000, reversible: every bit of the picture, 16 bits too."""

POLICIES = {
    policy.name: policy
    for policy in (
        FASTEST,
        JPEG2000_LOSSY,
        JPEG2000_LOSSY.changed(name="fast-higher", psnr=50),
        JPEG2000_LOSSLESS,
    )
}
"""The policies that are always there, besides `use-original`, which makes nothing."""
FAST_LOSSY = POLICIES["fast-lossy"]
FAST_HIGHER = POLICIES["fast-higher"]
MAX_QUALITY = POLICIES["max-quality"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the libvips at hand can do; read once by a worker, so that only what is true is
    advertised.
    """

    version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    missing: tuple[str, ...] = ()


def pyramid_levels(dimensions: Dimensions, tile: int) -> int:
    """Halvings (rounded up) until the longer side fits one tile."""
    levels, side = 0, max(dimensions)
    while side > tile:
        side = -(-side // 2)
        levels += 1
    return levels
