"""The precincts of a tile, and the order in which a codestream has their packets (ISO/IEC 15444-1,
B.6, B.7 and B.12).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.imaging.jpeg2000.codestream import Area, Codestream, Component
from orchestrator.imaging.jpeg2000.coding_style import (
    CPRL,
    LRCP,
    PCRL,
    RLCP,
    RPCL,
    CodingStyle,
)

MAX_PACKETS = 200_000
_MARGIN = 12
"""Samples around an area whose precincts are needed too, at each resolution. The longest filter
reaches 4 samples of a band, which are 8 of the resolution (F.3).
"""

_REACH = 6
"""Samples of a band that are more than filters reach."""

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PrecinctGrid:
    """The precincts of one component at one resolution: the number of their first column and row,
    and how many columns and rows there are.
    """

    component: int
    resolution: int
    first: tuple[int, int]
    counts: tuple[int, int]

    @property
    def total(self) -> int:
        """How many precincts there are."""
        return self.counts[0] * self.counts[1]


class TilePackets:
    """The precincts of one tile. `order` has the number of the precinct of each packet, in the
    order of the codestream.
    """

    def __init__(self, stream: Codestream, style: CodingStyle, tile: int) -> None:
        """Raises ValueError for more than MAX_PACKETS packets."""
        self._stream, self._style = stream, style
        self._area = stream.area_of(tile)
        self._grids = [
            self._grid(number, component, resolution)
            for resolution in range(style.levels + 1)
            for number, component in enumerate(stream.components)
        ]
        if sum(grid.total for grid in self._grids) * style.layers > MAX_PACKETS:
            raise ValueError("too many packets")
        self.order = self._sort()

    def needed(self, area: Area, reduction: int) -> Mask:
        """For each precinct, whether it is needed to decode `area` of the reference grid."""
        return self._precincts(area, reduction, _MARGIN)

    def inside(self, area: Area | None, reduction: int) -> Mask:
        """For each precinct, whether it lies in an area that `surroundings` returned (None:
        anywhere), and in a resolution that remains at `reduction`.
        """
        return self._precincts(area or self._area, reduction, 0)

    def surroundings(self, area: Area) -> Area:
        """The smallest part of the tile that contains `area` and what filters reach from there, and
        that divides no precinct. A codestream of this part alone has the same samples in `area`.
        """
        levels, around = self._style.levels, list(self._area)
        for axis in (0, 1):
            steps = [(c.dx, c.dy)[axis] for c in self._stream.components]
            scale = max(
                exponents[axis] + levels - resolution
                for resolution, exponents in enumerate(self._style.precincts)
            )
            unit, reach = math.lcm(*steps) << scale, (_REACH << levels) * max(steps)
            around[axis] = max(around[axis], (area[axis] - reach) // unit * unit)
            around[axis + 2] = min(around[axis + 2], -(-(area[axis + 2] + reach) // unit) * unit)
        return around[0], around[1], around[2], around[3]

    def _precincts(self, area: Area, reduction: int, margin: int) -> Mask:
        masks = [
            np.zeros(grid.total, np.bool_)
            if grid.resolution > self._style.levels - reduction
            else self._mask(grid, area, margin)
            for grid in self._grids
        ]
        return np.concatenate(masks)

    def _grid(self, number: int, component: Component, resolution: int) -> PrecinctGrid:
        first, counts = [], []
        steps = component.dx, component.dy
        for axis, exponent in enumerate(self._style.precincts[resolution]):
            low = self._position(self._area[axis], steps[axis], resolution)
            high = self._position(self._area[axis + 2], steps[axis], resolution)
            first.append(low >> exponent)
            counts.append((-(-high >> exponent)) - first[axis] if high > low else 0)
        return PrecinctGrid(number, resolution, (first[0], first[1]), (counts[0], counts[1]))

    def _position(self, at: int, step: int, resolution: int) -> int:
        """The first sample at or after a position of the reference grid."""
        samples = -(-at // step)
        return -(-samples >> (self._style.levels - resolution))

    def _mask(self, grid: PrecinctGrid, area: Area, margin: int) -> Mask:
        component = self._stream.components[grid.component]
        steps = component.dx, component.dy
        sides = []
        for axis, exponent in enumerate(self._style.precincts[grid.resolution]):
            low = self._position(area[axis], steps[axis], grid.resolution) - margin
            high = self._position(area[axis + 2], steps[axis], grid.resolution) + margin
            numbers = np.arange(grid.counts[axis]) + grid.first[axis]
            sides.append((numbers >= low >> exponent) & (numbers < -(-high >> exponent)))
        mask: Mask = np.outer(sides[1], sides[0]).ravel()
        return mask

    def _sort(self) -> Numbers:
        style, totals = self._style, [grid.total for grid in self._grids]
        number = np.arange(sum(totals))
        resolution = np.repeat([grid.resolution for grid in self._grids], totals)
        component = np.repeat([grid.component for grid in self._grids], totals)
        x, y = (np.concatenate(list(self._corners(axis))) for axis in (0, 1))
        keys = {  # the last key sorts first
            LRCP: (number, component, resolution),
            RLCP: (number, component, resolution),
            RPCL: (number, component, x, y, resolution),
            PCRL: (number, resolution, component, x, y),
            CPRL: (number, resolution, x, y, component),
        }[style.progression]
        order = np.lexsort(keys)
        if style.progression == LRCP:
            return np.tile(order, style.layers)
        if style.progression == RLCP:
            sizes = np.bincount(resolution, minlength=style.levels + 1)
            parts = np.split(order, np.cumsum(sizes)[:-1])
            return np.concatenate([np.tile(part, style.layers) for part in parts])
        return np.repeat(order, style.layers)

    def _corners(self, axis: int) -> Iterator[Numbers]:
        """For each grid, the position on the reference grid that puts each precinct in order."""
        for grid in self._grids:
            component = self._stream.components[grid.component]
            step = (component.dx, component.dy)[axis]
            exponent = self._style.precincts[grid.resolution][axis]
            scale = exponent + self._style.levels - grid.resolution
            at = ((np.arange(grid.counts[axis]) + grid.first[axis]) << scale) * step
            # A precinct that begins before the tile comes at the edge of the tile.
            at = np.maximum(at, self._area[axis])
            across, down = grid.counts
            yield np.tile(at, down) if axis == 0 else np.repeat(at, across)
