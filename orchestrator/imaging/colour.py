"""Converts colours to what browsers expect: sRGB or one band of gray, with alpha kept, and 8 bits
unless 16 are requested.

Input is an image as the readers declare it: its colour channels, then at most one band of alpha.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.imaging import profiles, vips

_COLOURS = {"b-w": 1, "grey16": 1, "cmyk": 4}
"""Colour channels of an interpretation; all others have 3."""
_UNDECLARED = frozenset(("multiband", "histogram", "matrix", "fourier", "error"))
_WEB = {"b-w": "uchar", "srgb": "uchar"}
"""Interpretations and formats of pixels that need no conversion if they have no profile."""
_PLAIN = frozenset(("b-w", "grey16", "srgb", "rgb", "rgb16"))
_LABS = frozenset(("lab", "labs", "labq", "lch"))
_MAX_8, _MAX_16 = 255, 65535
_D50 = [96.4212, 100.0, 82.5188]
_D50_TO_LINEAR_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)
"""XYZ of white point D50 to linear sRGB (D65), adapted by the method of Bradford as ICC says."""


class _Declared(NamedTuple):
    """An image and what its header says. To read a field of a header takes 10 microseconds."""

    image: Any
    interpretation: str
    format: str
    bands: int


def to_web(image: Any, *, keep_16: bool = False) -> Any:
    """`image` as sRGB (3 bands) or gray (1 band), with alpha if it had alpha; ushort only if it was
    ushort and `keep_16`.

    An embedded profile that fits is applied once. CMYK without one is converted with libvips' own
    profile. Gray stays one band. Alpha takes no part in the conversion of colours.
    """
    image, name, kind, bands = _declare(image)
    is_deep = keep_16 and kind == "ushort"
    count = _COLOURS.get(name, 3)
    if bands == count:
        if _WEB.get(name) == kind and profiles.profile_of(image) is None:
            return image
        return _convert(image, name, deep=is_deep)
    colours = _convert(image.extract_band(0, n=count), name, deep=is_deep)
    alpha = _scale_alpha(image.extract_band(count), name, deep=is_deep)
    return colours.bandjoin(alpha)


def ignored_profile(image: Any) -> str | None:
    """A sentence that says why the embedded profile of `image` is not applied; None if it is, or if
    there is none.
    """
    profile = profiles.profile_of(image)
    if profile is None:
        return None
    return profiles.fault_of_profile(profile, _declare(image).interpretation)


def has_alpha(image: Any) -> bool:
    """True if `image` has a band of alpha after its colour channels."""
    _, name, _, bands = _declare(image)
    return bands > _COLOURS.get(name, 3)


def _declare(image: Any) -> _Declared:
    """`image` in the interpretation that its bands and its depth say. If the bands are not
    declared, the first three are colours, or the first one is gray, and there is no alpha.
    """
    name, kind, bands = image.interpretation, image.format, image.bands
    declared, is_deep = name, kind == "ushort"
    if name in _UNDECLARED:
        bands = 3 if bands >= 3 else 1
        image = image.extract_band(0, n=bands)
        declared = _interpretation(gray=bands == 1, deep=is_deep)
    elif name in _PLAIN:
        declared = _interpretation(gray=bands < 3, deep=is_deep)
    image = image if declared == name else image.copy(interpretation=declared)
    return _Declared(image, declared, kind, bands)


def _interpretation(*, gray: bool, deep: bool) -> str:
    if gray:
        return "grey16" if deep else "b-w"
    return "rgb16" if deep else "srgb"


def _convert(image: Any, name: str, *, deep: bool) -> Any:
    """Colour channels of interpretation `name`, without alpha, as sRGB or gray, 8 bits or 16
    (`deep`).
    """
    is_gray = name in ("b-w", "grey16")
    converted = _apply_profile(image, name, deep=deep)
    if converted is not None:
        image = converted.extract_band(1) if is_gray else converted
    elif name == "cmyk":
        image = profiles.transform_inks(image, deep=deep)
    elif name in _LABS:
        image = _lab_to_linear(image)
    target = _interpretation(gray=is_gray, deep=deep)
    if converted is not None and is_gray:
        image = image.copy(interpretation=target)
    elif image.interpretation != target:
        image = image.colourspace(target)
    kind = "ushort" if deep else "uchar"
    return image if image.format == kind else image.cast(kind)


def _apply_profile(image: Any, name: str, *, deep: bool) -> Any | None:
    """`image` (of interpretation `name`) by its embedded profile; None if it has none that fits,
    or if that is sRGB.
    """
    profile = profiles.profile_of(image)
    if profile is None or not profiles.fits(profile, name):
        return None
    if name in ("srgb", "rgb16") and profiles.is_srgb(profile):
        return None
    try:
        return profiles.transform(image, profile, deep=deep)
    except vips.VipsError:  # lcms cannot use the profile: show the picture without
        return None


def _lab_to_linear(image: Any) -> Any:
    """Lab of white point D50, as ICC and TIFF define it, in linear sRGB. libvips' own conversion
    takes D65 as the white point.
    """
    image = image.colourspace("lab").Lab2XYZ(temp=_D50)
    matrix = [[value / 100 for value in row] for row in _D50_TO_LINEAR_SRGB]
    image = image.recomb(vips.Image.new_from_array(matrix)).copy(interpretation="scrgb")
    image.remove(profiles.FIELD)  # it is not of these channels
    return image


def _scale_alpha(alpha: Any, interpretation: str, *, deep: bool) -> Any:
    """One band of alpha for 8 bits, or for 16 (`deep`)."""
    top = _MAX_16 if alpha.format == "ushort" else 1 if interpretation == "scrgb" else _MAX_8
    wanted = _MAX_16 if deep else _MAX_8
    if top != wanted:
        alpha = (alpha * (wanted / top)).rint()
    kind = "ushort" if deep else "uchar"
    return alpha if alpha.format == kind else alpha.cast(kind)
