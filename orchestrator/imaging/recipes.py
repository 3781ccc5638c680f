"""Requests to the imaging workers and their results: frozen, picklable values, without libvips.

A recipe is complete: `iiif/geometry.py` does all arithmetic of the IIIF Image API before, so a
worker never decides a size. Invariant: `region` lies inside `dimensions`, and `size` is exactly the
size of the result before rotation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator.model import Dimensions, SourceKind

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the oriented image at full scale."""

WHOLE_IMAGE_PIXELS = 2_000_000
"""A decode of more pixels is a whole image. A tile of 512 pixels decodes at most a million."""

Quality = Literal["default", "color", "gray", "bitonal"]
TileCompression = Literal["jpeg", "deflate", "webp", "zstd"]
OutputFormat = Literal["jpg", "png", "webp", "tif", "gif", "avif"]
InputFormat = Literal["jpeg", "png", "tiff", "jpeg2000", "gif", "webp", "heif", "svg", "pdf"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Lossy quality of each format, 1 to 100, and how much work is spent on the size of a PNG, 0
    (none) to 9.
    """

    jpeg_quality: int = 80
    webp_quality: int = 80
    avif_quality: int = 55
    png_compression: int = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """One derivative of one source file. `dimensions` and `levels` come from the probe; `rotation`
    is clockwise.
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
        """How often the source can be halved so that the region still has `size` pixels."""
        return reduction(self.region[2:], self.size, self.levels)

    @property
    def decoded_pixels(self) -> int:
        """Pixels that are read at that reduction: an estimate of the cost, to choose a lane."""
        return (self.region[2] * self.region[3]) >> (2 * self.reduction)

    @property
    def is_whole_image(self) -> bool:
        """True if more pixels are read than for any tile."""
        return self.decoded_pixels > WHOLE_IMAGE_PIXELS


def reduction(region: Dimensions, size: Dimensions, levels: int) -> int:
    """The largest n <= levels with ceil(region / 2**n) >= size on both axes.

    Clients round up the size of the last tile of a row. Rounding up here too gives that tile the
    same level as its neighbours, and gives `w,` and `w,h` of one tile the same level.
    """
    best = 0
    for n in range(1, levels + 1):
        if any(-(-full >> n) < required for full, required in zip(region, size, strict=True)):
            break
        best = n
    return best


@dataclass(frozen=True, slots=True)
class Probe:
    """What the headers of a picture say; width and height in pixels after EXIF orientation.

    `tile_width`, `tile_height` and `levels` are what an info document should advertise: those of
    the file if it is tile-ready (`kind` is not ORIGINAL), otherwise those of the pyramid that the
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
    notes: tuple[str, ...] = ()
    """What is ignored of the file, as sentences."""
    needs_conversion: str = ""
    """Why the original is converted by every policy, also `use-original`; "" if it is not."""

    @property
    def dimensions(self) -> Dimensions:
        """(width, height) in pixels, oriented."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class ConversionPolicy:
    """How an original becomes a tile-ready source. `tile` is the edge of a tile in pixels, 0 for a
    codestream in one piece; `quality` applies to JPEG and WebP tiles, `psnr` (in dB) to lossy
    JPEG2000. The fields from `compression` on apply to pyramid TIFF.
    """

    name: str
    kind: SourceKind
    extension: str
    media_type: str
    tile: int
    quality: int = 90
    psnr: float = 0.0
    lossless: bool = False
    compression: TileCompression = "jpeg"
    """Of the tiles. Where JPEG cannot be used (transparency, lossless) it is deflate."""
    resolution: float = 0.0
    """To record, in pixels per millimetre; 0 keeps that of the original."""
    limits: Dimensions | None = None
    """Largest (width, height). A larger picture is reduced to fit, with its proportions."""
    autorotate: bool = True
    """Store the picture upright; otherwise as it is, with its EXIF orientation."""
    srgb: bool = True
    """Convert colours to sRGB; otherwise they are kept, with their profile."""
    always_big: bool = False
    """Write BigTIFF always, not only where a classic TIFF could become too small."""
    subifd: bool = False
    """Store the smaller levels as sub-directories of the picture, not as pages."""
    pdf_dpi: int = 150
    """Resolution in dots per inch at which a page of a PDF is drawn."""

    def tile_compression(self, *, has_alpha: bool) -> TileCompression:
        """The compression of the tiles of a picture: JPEG has no transparency and is not
        lossless.
        """
        if self.compression == "jpeg" and (self.lossless or has_alpha):
            return "deflate"
        return self.compression

    @property
    def keeps_16(self) -> bool:
        """True if a picture of 16 bits keeps them."""
        return self.lossless and self.compression != "webp"

    @property
    def advertised_tile(self) -> int:
        """The edge of the tiles that an info document of the source advertises."""
        return self.tile or UNTILED_TILE


MAX_SIDE = 1_000_000
"""Longest edge in pixels of an image that is accepted."""
UNTILED_TILE = 512
"""The tile edge advertised for a codestream in one piece: decoding two tiles of 256 pixels takes as
long as decoding one of 512.
"""

FASTEST = ConversionPolicy(
    name="fastest",
    kind=SourceKind.PYRAMID_TIFF,
    extension="tif",
    media_type="image/tiff",
    tile=256,
    quality=90,
)
"""Pyramid TIFF of 256-pixel JPEG tiles, which is the fastest to serve. Images with transparency are
stored lossless (deflate).
"""


def psnr_for_quality(quality: int) -> float:
    """The peak signal-to-noise ratio in dB for a JPEG2000 quality of 1 to 100."""
    return 25 + quality / 4


JPEG2000_LOSSY = ConversionPolicy(
    name="fast-lossy",
    kind=SourceKind.JPEG2000,
    extension="jp2",
    media_type="image/jp2",
    tile=512,
    psnr=45,
)
"""JPEG2000, lossy: small, and on a screen not distinguishable from the original."""

JPEG2000_LOSSLESS = replace(JPEG2000_LOSSY, name="max-quality", psnr=0.0, lossless=True)
"""JPEG2000, reversible: every bit of the image, 16 bits too."""

POLICIES = {
    policy.name: policy
    for policy in (
        FASTEST,
        JPEG2000_LOSSY,
        replace(JPEG2000_LOSSY, name="fast-higher", psnr=50),
        JPEG2000_LOSSLESS,
    )
}
"""The built-in policies, except `use-original`, which makes no source."""
FAST_LOSSY = POLICIES["fast-lossy"]
FAST_HIGHER = POLICIES["fast-higher"]
MAX_QUALITY = POLICIES["max-quality"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the installed libvips reads and writes, read once at start, so that only supported
    formats are advertised. `missing` has the formats that it lacks, and "OpenJPEG" if that library
    cannot be used directly.
    """

    version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    missing: tuple[str, ...] = ()


def pyramid_levels(dimensions: Dimensions, tile: int) -> int:
    """How often the image must be halved (rounded up) until its longer side fits into one tile."""
    levels, side = 0, max(dimensions)
    while side > tile:
        side = -(-side // 2)
        levels += 1
    return levels
