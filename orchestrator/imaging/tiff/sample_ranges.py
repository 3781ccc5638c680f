"""Which values of the samples are black and white. The same range holds for all colour channels,
regions and levels of a picture.

- Unsigned integers of up to 16 bits: 0 is black and 2**bits - 1 is white. The declared range is
  ignored, as other readers do.
- Other samples: the declared range (SMinSampleValue, SMaxSampleValue), if the file has one.
- Else floats that all lie in 0..1: 0 is black, 1 is white.
- Else integers that use at least half of the range of their type (of its positive half if none is
  negative): the range of the type.
- Else the range of the finite values of the picture.

NaN and the no-data value of GDAL are black. Values outside the range are cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.imaging.tiff.directories import Directory
from orchestrator.imaging.tiff.interpretation import FLOAT, SIGNED, UNSIGNED, Samples

Range = tuple[float, float]

_BLOCK_SAMPLES = 2_000_000


def row_blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Slices of the first axis of `array` that hold about two million samples each."""
    step = max(1, _BLOCK_SAMPLES // max(1, math.prod(array.shape[1:])))
    for first in range(0, array.shape[0], step):
        yield slice(first, first + step)


def find_range(
    array: NDArray[Any], samples: Samples, directory: Directory, no_data: float | None
) -> Range:
    """(black, white) for the colours of `array` (rows, columns, colours)."""
    if samples.format == UNSIGNED and samples.bits <= 16:
        return 0, 2**samples.bits - 1
    declared = _declared_range(directory, samples.colours)
    if declared is not None:
        return declared
    low, high = _finite_range(array, no_data)
    if samples.format == FLOAT:
        return (0, 1) if low >= 0 and high <= 1 else (low, high)
    return _integer_range(samples, low, high)


def alpha_range(samples: Samples) -> Range:
    """(transparent, opaque) for the alpha channel."""
    if samples.format == FLOAT:
        return 0, 1
    bits = samples.bits - 1 if samples.format == SIGNED else samples.bits
    return 0, 2**bits - 1


def _declared_range(directory: Directory, colours: int) -> Range | None:
    lowest, highest = directory.lowest[:colours], directory.highest[:colours]
    if not lowest or not highest:
        return None
    low, high = min(lowest), max(highest)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _integer_range(samples: Samples, low: float, high: float) -> Range:
    if samples.format == SIGNED:
        most = 2 ** (samples.bits - 1) - 1
        least = -most - 1 if low < 0 else 0
    else:
        least, most = 0, 2**samples.bits - 1
    uses_type = high - low >= (most - least) / 2
    return (least, most) if uses_type else (low, high)


def _finite_range(array: NDArray[Any], no_data: float | None) -> Range:
    """(smallest, largest) of the values that are finite and not `no_data`; (0, 0) without any."""
    low, high = math.inf, -math.inf
    for rows in row_blocks(array):
        block = array[rows]
        valid = np.isfinite(block)
        if no_data is not None:
            valid &= block != no_data
        values = block[valid]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0, 0)
