"""Turns decoded samples into the form that every reader returns: 8 or 16 bits over the full range,
the colour channels and then at most one straight alpha channel.

L*a*b* becomes RGB here: in a TIFF its white is D50, and libvips would take it for D65.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.imaging.tiff.directories import Directory
from orchestrator.imaging.tiff.interpretation import FLOAT, UNSIGNED, Samples
from orchestrator.imaging.tiff.sample_ranges import Range, alpha_range, find_range, row_blocks

_D50 = (0.9642, 1.0, 0.8249)
_XYZ_TO_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)
"""From XYZ with white D50 to linear sRGB, adapted to D65 by Bradford's method."""


def declare(
    array: NDArray[Any],
    samples: Samples,
    directory: Directory,
    *,
    colour_map: NDArray[Any] | None = None,
    no_data: float | None = None,
) -> NDArray[Any]:
    """`array` (rows, columns, samples) in declared form: (rows, columns, `samples.bands`), uint8 or
    uint16. `colour_map` (3, entries) belongs to a palette.
    """
    kind = np.uint16 if samples.is_deep else np.uint8
    if _is_declared(samples) and array.dtype == kind:
        return _select_bands(array, samples)
    height, width = array.shape[:2]
    top = 65535 if samples.is_deep else 255
    result = np.empty((height, width, samples.bands), kind)
    is_scaled = samples.kind in ("gray", "rgb", "cmyk", "ycbcr")
    whole = array[..., : samples.colours]
    span = find_range(whole, samples, directory, no_data) if is_scaled else (0, 1)
    for rows in row_blocks(array):
        colours = array[rows, :, : samples.colours]
        if samples.kind == "palette" and colour_map is not None:
            web = _look_up(colours[..., 0], colour_map)
        elif samples.kind in ("lab", "icclab"):
            web = _lab_to_srgb(_lab_values(colours, samples))
        else:
            web = _scale(colours, span, no_data)
        if samples.is_inverted:
            web = 1 - web
        if samples.alpha is not None:
            alpha = _scale(array[rows, :, samples.alpha, None], alpha_range(samples), None)
            if samples.is_premultiplied:
                web = np.divide(web, alpha, out=np.zeros_like(web), where=alpha > 0)
            web = np.concatenate((web, alpha), axis=-1)
        result[rows] = np.rint(np.clip(web, 0, 1) * top)
    return result


def _is_declared(samples: Samples) -> bool:
    """True if the samples already have 8 or 16 bits over the full range, and straight alpha."""
    return (
        samples.kind in ("gray", "rgb", "cmyk", "ycbcr")
        and samples.format == UNSIGNED
        and samples.bits in (8, 16)
        and not samples.is_premultiplied
    )


def _select_bands(array: NDArray[Any], samples: Samples) -> NDArray[Any]:
    """The colours of `array`, inverted if 0 is white, and its alpha."""
    colours = array[..., : samples.colours]
    if samples.is_inverted:
        colours = 2**samples.bits - 1 - colours
    if samples.alpha is None:
        return colours
    return np.concatenate((colours, array[..., samples.alpha, None]), axis=-1)


def _scale(block: NDArray[Any], span: Range, no_data: float | None) -> NDArray[Any]:
    """`block` as floats from 0 (black) to 1; NaN and `no_data` are 0."""
    low, high = span
    scaled = (block.astype(np.float64) - low) / ((high - low) or 1)
    if no_data is not None:
        scaled[block == no_data] = 0
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)


def _look_up(indices: NDArray[Any], colour_map: NDArray[Any]) -> NDArray[Any]:
    # Old writers stored 8-bit colours in the 16-bit map; libtiff uses the same rule.
    top = 255 if colour_map.max(initial=0) < 256 else 65535
    clipped = np.minimum(indices, colour_map.shape[1] - 1)
    return colour_map.T[clipped].astype(np.float64) / top  # type: ignore[no-any-return]  # numpy


def _lab_values(block: NDArray[Any], samples: Samples) -> NDArray[Any]:
    """L* from 0 to 100 and a*, b*, as floats. TIFF 6.0, section 23; TIFF Technical Note 4."""
    if samples.format == FLOAT:
        return np.nan_to_num(block.astype(np.float32))
    is_deep = samples.bits == 16
    values = block.astype(np.float32)
    if samples.kind == "icclab":
        lightness = values[..., :1] * (100 / (65280 if is_deep else 255))
        chroma = values[..., 1:] / (256 if is_deep else 1) - 128
    else:
        lightness = values[..., :1] * (100 / (65535 if is_deep else 255))
        signed = np.ascontiguousarray(block[..., 1:]).view(np.int16 if is_deep else np.int8)
        chroma = signed.astype(np.float32) / (256 if is_deep else 1)
    return np.concatenate((lightness, chroma), axis=-1)


def _lab_to_srgb(lab: NDArray[Any]) -> NDArray[Any]:
    """sRGB from 0 to 1. CIE 15:2004, section 8.2.1; IEC 61966-2-1."""
    y = (lab[..., 0] + 16) / 116
    roots = np.stack((y + lab[..., 1] / 500, y, y - lab[..., 2] / 200), axis=-1)
    is_linear = roots <= 6 / 29
    # A product of three is computed much faster than a power.
    xyz = np.where(is_linear, 3 * (6 / 29) ** 2 * (roots - 4 / 29), roots * roots * roots)
    matrix = (np.array(_XYZ_TO_SRGB) * np.array(_D50)).T.astype(np.float32)
    linear = np.clip(xyz.astype(np.float32) @ matrix, 0, 1)
    return _srgb_curve()[np.rint(linear * 65535).astype(np.uint16)]  # type: ignore[no-any-return]  # numpy


def _srgb_curve() -> NDArray[Any]:
    """sRGB values of 65,536 linear ones, all from 0 to 1."""
    linear = np.linspace(0, 1, 65536)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return curve.astype(np.float32)
