"""What the samples of a TIFF image mean, which reader reads them right, and what is not supported.

The table is a list of what was tried and is right, never a list of what is wrong: libvips 8.14
shows wrong colours without an error for uncompressed YCbCr, Lab, floats and 32-bit integers, and it
cannot read tiles of separate planes. All other samples are read by tifffile, or refused with the
name of the property.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import Damaged, Unsupported
from orchestrator.imaging.tiff.directories import Directory, SampleTags

Engine = Literal["libvips", "tifffile", "libtiff"]
"""`libvips` reads regions and levels. `tifffile` (with imagecodecs) decodes the whole picture.
`libtiff` does so too, by the RGBA interface of that library, for old-style JPEG and for YCbCr that
is not JPEG.
"""
JpegKind = Literal["usual", "deep", "lossless"]
"""Kinds of JPEG data. libvips reads the usual one, of 8 bits."""
Kind = Literal["gray", "rgb", "palette", "cmyk", "lab", "icclab", "ycbcr"]

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
JPEG, OLD_JPEG = 7, 6
_UNDEFINED_FORMAT = 4
_KINDS: dict[int, Kind] = {
    0: "gray",
    1: "gray",
    2: "rgb",
    3: "palette",
    5: "cmyk",
    6: "ycbcr",
    8: "lab",
    9: "icclab",
}
_COLOURS: dict[Kind, int] = {
    "gray": 1,
    "rgb": 3,
    "palette": 1,
    "cmyk": 4,
    "lab": 3,
    "icclab": 3,
    "ycbcr": 3,
}
_OTHER_PHOTOMETRICS = {
    4: "a transparency mask as the picture",
    10: "ITU L*a*b* colours",
    32803: "the raw data of a camera sensor",
    34892: "the raw data of a camera sensor",
    32844: "LogL samples",
    32845: "LogLuv samples",
}
_LIBVIPS_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, JPEG, 8, 32773, 32946, 50000, 50001))
_PLAIN_COMPRESSIONS = frozenset((1, 5, 8, 32773, 32946, 34925, 50000))
"""Compressions of bytes, which do not know what the bytes mean."""
_LOSSLESS_JPEG, _WEBP = 34892, 50001
YCC_JPEG2000 = 33003
"""JPEG 2000 whose components are YCbCr, whatever the photometric tag says (Aperio)."""
JPEG2000S = frozenset((33003, 33004, 33005, 34712))
_TIFFFILE_COMPRESSIONS = (
    _PLAIN_COMPRESSIONS
    | JPEG2000S
    | frozenset((2, 3, 4, JPEG, 33007, 34887, _LOSSLESS_JPEG, 34933, 22610, 34934, _WEBP))
)
_COMPRESSION_NAMES = {
    32766: "NeXT",
    32809: "ThunderScan",
    32908: "PIXAR film",
    32909: "PIXAR log",
    34661: "JBIG",
    34676: "SGI log",
    34677: "SGI log",
    34715: "JBIG2",
    50002: "JPEG XL",
    52546: "JPEG XL",
    65000: "EER",
}
_FORMAT_NAMES = {UNSIGNED: "integer", SIGNED: "signed integer", FLOAT: "float"}
_BITS = {
    UNSIGNED: frozenset((*range(1, 33), 64)),
    SIGNED: frozenset((8, 16, 32, 64)),
    FLOAT: frozenset((16, 24, 32, 64)),
}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_CMYK_INKS = 1


@dataclass(frozen=True, slots=True)
class Samples:
    """The meaning of the samples of one image. `alpha` is the number of the sample that declares
    opacity, or None; samples that are neither colour nor alpha are dropped.
    """

    engine: Engine
    kind: Kind
    bits: int
    format: int
    """One of UNSIGNED, SIGNED, FLOAT."""
    colours: int
    """Samples of a pixel that are colours; 1 for a palette."""
    alpha: int | None
    is_premultiplied: bool
    is_inverted: bool
    """True if 0 is white."""

    @property
    def bands(self) -> int:
        """The bands of the picture in declared form, alpha included."""
        return (3 if self.kind == "palette" else self.colours) + (self.alpha is not None)

    @property
    def is_deep(self) -> bool:
        """True if the picture in declared form has 16 bits for each band."""
        return (self.bits > 8 and self.kind != "palette") or self.kind in ("lab", "icclab")

    @property
    def interpretation(self) -> str:
        """What libvips calls the picture in declared form."""
        if self.kind == "cmyk":
            return "cmyk"
        if self.kind == "gray":
            return "grey16" if self.is_deep else "b-w"
        return "rgb16" if self.is_deep else "srgb"


def interpret(directory: Directory, *, jpeg: JpegKind = "usual") -> Samples:
    """What the samples of `directory` mean. `jpeg` says of which kind its JPEG data is.

    Raises Damaged for tags that contradict each other, Unsupported for what no reader reads.
    """
    tags = directory.samples
    if directory.compression == OLD_JPEG:
        return _interpret_old_jpeg(directory)
    kind = _kind(tags)
    bits, form = _depth(tags)
    colours = _COLOURS[kind]
    if tags.count < colours or len(set(tags.bits[:colours])) != 1:
        raise Damaged("The TIFF file is damaged: it has fewer samples than its colours need.")
    if directory.depth > 1:
        raise _unsupported("several layers in depth")
    alpha, is_premultiplied = _find_alpha(tags, colours)
    return Samples(
        engine=_choose_engine(directory, kind, jpeg),
        kind=kind,
        bits=bits,
        format=form,
        colours=colours,
        alpha=alpha,
        is_premultiplied=is_premultiplied,
        is_inverted=tags.photometric == 0,
    )


def _interpret_old_jpeg(directory: Directory) -> Samples:
    """Old-style JPEG, whose tags may lack the depth and number of the samples."""
    tags = directory.samples
    is_gray = tags.photometric in (0, 1) and tags.count == 1
    if not is_gray and tags.photometric not in (2, 6):
        raise _unsupported(f"old-style JPEG of photometric interpretation {tags.photometric}")
    if tags.is_planar or tags.extras:
        raise _unsupported("old-style JPEG in separate planes or with extra samples")
    return Samples(
        engine="libtiff",
        kind="gray" if is_gray else "ycbcr",
        bits=8,
        format=UNSIGNED,
        colours=1 if is_gray else 3,
        alpha=None,
        is_premultiplied=False,
        is_inverted=False,
    )


def has_same_samples(one: Directory, other: Directory) -> bool:
    """True if both images have samples of the same kind. RGB and YCbCr are the same: both are read
    as RGB.
    """
    first, second = one.samples, other.samples
    photometrics = {2 if tags.photometric == 6 else tags.photometric for tags in (first, second)}
    return len(photometrics) == 1 and (
        (first.count, first.is_planar, set(first.bits), set(first.formats), first.extras)
        == (second.count, second.is_planar, set(second.bits), set(second.formats), second.extras)
    )


def _kind(tags: SampleTags) -> Kind:
    if tags.photometric in _OTHER_PHOTOMETRICS:
        raise _unsupported(_OTHER_PHOTOMETRICS[tags.photometric])
    if tags.photometric == -1:  # as libtiff guesses
        return "rgb" if tags.count >= 3 else "gray"
    if tags.photometric not in _KINDS:
        raise _unsupported(f"photometric interpretation {tags.photometric}")
    if tags.photometric == 5 and tags.ink_set != _CMYK_INKS:
        raise _unsupported("other inks than cyan, magenta, yellow and black")
    return _KINDS[tags.photometric]


def _depth(tags: SampleTags) -> tuple[int, int]:
    """(bits, format) that all samples have."""
    if len(set(tags.bits)) != 1 or len(set(tags.formats)) != 1:
        raise _unsupported("samples of different depths or formats")
    bits, form = tags.bits[0], tags.formats[0]
    form = UNSIGNED if form == _UNDEFINED_FORMAT else form
    if form not in _BITS:
        raise _unsupported("complex samples")
    if bits not in _BITS[form]:
        raise _unsupported(f"{bits}-bit {_FORMAT_NAMES[form]} samples")
    return bits, form


def _find_alpha(tags: SampleTags, colours: int) -> tuple[int | None, bool]:
    """(number of the sample that is alpha or None, True if it is associated alpha)."""
    for n, extra in enumerate(tags.extras):
        sample = max(colours, tags.count - len(tags.extras)) + n
        if extra in (_ASSOCIATED, _UNASSOCIATED) and sample < tags.count:
            return sample, extra == _ASSOCIATED
    return None, False


def _choose_engine(directory: Directory, kind: Kind, jpeg: JpegKind) -> Engine:
    compression, tags = directory.compression, directory.samples
    form = tags.formats[0]
    if kind == "ycbcr" and compression in _PLAIN_COMPRESSIONS:
        return _engine_for_ycbcr(directory)
    if kind == "ycbcr" and (jpeg == "lossless" or tags.is_planar or compression == _LOSSLESS_JPEG):
        raise _unsupported("YCbCr in separate planes or in lossless JPEG")
    if _is_right_in_libvips(directory, kind) and jpeg == "usual":
        return "libvips"
    if compression not in _TIFFFILE_COMPRESSIONS:
        name = _COMPRESSION_NAMES.get(compression, f"number {compression}")
        raise _unsupported(f"the compression {name}")
    if kind == "palette" and (form != UNSIGNED or tags.bits[0] > 16):
        raise _unsupported(f"a palette of {tags.bits[0]}-bit samples")
    if kind in ("lab", "icclab") and (form, tags.bits[0]) not in (
        *((UNSIGNED, bits) for bits in (8, 16)),
        *((FLOAT, bits) for bits in (16, 32, 64)),
    ):
        raise _unsupported(f"L*a*b* in {tags.bits[0]}-bit {_FORMAT_NAMES[form]} samples")
    return "tifffile"


def _engine_for_ycbcr(directory: Directory) -> Engine:
    """`libtiff`, if its RGBA interface reads YCbCr that is not JPEG."""
    tags = directory.samples
    if tags.bits[0] != 8 or tags.formats[0] not in (UNSIGNED, _UNDEFINED_FORMAT):
        raise _unsupported(f"YCbCr in {tags.bits[0]}-bit samples")
    if tags.is_planar or tags.count > 3:
        raise _unsupported("YCbCr in separate planes or with extra samples")
    return "libtiff"


def _is_right_in_libvips(directory: Directory, kind: Kind) -> bool:
    tags, bits = directory.samples, directory.samples.bits[0]
    is_deep_enough = bits in (8, 16) or (bits in (1, 2, 4) and tags.count == 1)
    if (
        tags.formats[0] not in (UNSIGNED, _UNDEFINED_FORMAT)
        or not is_deep_enough
        or directory.compression not in _LIBVIPS_COMPRESSIONS
        or tags.photometric == -1
        or (tags.is_planar and directory.is_tiled)
        or _is_much_smaller_than_its_tile(directory)
        # libtiff refuses a JPEG with another number of components than its colours have
        or (directory.compression == JPEG and tags.extras and not tags.is_planar)
    ):
        return False
    match kind:
        case "gray" if tags.is_planar:
            return False  # libvips repeats the first row of the first plane
        case "gray" | "rgb":
            # With 16 bits and two extra samples libvips divides by a 256th of the alpha.
            return _ASSOCIATED not in tags.extras or len(tags.extras) == 1
        case "palette":
            return tags.count == 1 and bits <= 8
        case "cmyk":
            return _ASSOCIATED not in tags.extras
        case "ycbcr":
            return directory.compression == JPEG and tags.count == 3 and bits == 8
        case _:
            return False


def _is_much_smaller_than_its_tile(directory: Directory) -> bool:
    """True for tiles that libvips refuses from 8.16 on: more than twice the longer edge of the
    image, which is rounded up to a multiple of 128.
    """
    longer_edge = max(directory.dimensions)
    return max(directory.tile) > 2 * (-(-longer_edge // 128) * 128)


def _unsupported(what: str) -> Unsupported:
    return Unsupported(
        f"TIFF files with {what} are not supported. "
        "Convert the file to RGB or gray with 8 or 16 bits for each sample."
    )
