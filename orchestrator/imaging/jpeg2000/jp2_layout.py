"""All that the headers of a JPEG2000 file say: its channels, its tile-parts, the levels it offers.

Read once for a file and kept. `base_reduction` is the only rule for which reduced resolutions show
the picture: not those of a palette, whose indices cannot be averaged, and not those whose grid is
not aligned with the offset of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Damaged
from orchestrator.imaging.jpeg2000.boxes import Boxes, read_boxes
from orchestrator.imaging.jpeg2000.channel_plan import ChannelPlan, plan_channels
from orchestrator.imaging.jpeg2000.codestream import INCOMPLETE, Codestream, parse_codestream
from orchestrator.imaging.jpeg2000.tile_index import (
    MAX_TILE_PARTS,
    TileIndex,
    list_tile_index,
    read_tile_index,
)
from orchestrator.imaging.jpeg2000.tile_parts import prefix_lengths
from orchestrator.model import Dimensions

SMALL_LEVEL_PIXELS = 1_500_000
"""Levels up to this size are decoded whole, which takes as long as two or three tiles."""
_SMALL_PICTURE_PIXELS = 1_000_000
"""Pictures up to this size are resized from full scale. The low resolutions of a wavelet have
artefacts at sharp edges, which are plain in a small picture.
"""


@dataclass(frozen=True, slots=True)
class Jp2Header:
    """What is before the first tile-part: boxes and main header."""

    boxes: Boxes
    stream: Codestream
    plan: ChannelPlan

    @property
    def usable_reductions(self) -> int:
        """The largest reduction at which the decoder shows the same picture."""
        width, height = self.stream.dimensions
        if self.plan.has_palette or width * height <= _SMALL_PICTURE_PIXELS:
            return 0
        corner = self.stream.area[0] | self.stream.area[1]
        aligned = (corner & -corner).bit_length() - 1 if corner else self.stream.levels
        return min(self.stream.levels, aligned)

    @property
    def levels(self) -> tuple[Dimensions, ...]:
        """The dimensions at each reduction that is offered. Where the decoder has none, pixels of
        a finer level are averaged; that goes down to a small level.
        """
        width, height = self.stream.dimensions
        levels = [(width, height)]
        while len(levels) <= self.usable_reductions or (
            levels[-1][0] * levels[-1][1] > SMALL_LEVEL_PIXELS and len(levels) <= 32
        ):
            n = len(levels)
            levels.append((-(-width >> n), -(-height >> n)))
        return tuple(levels)

    def base_reduction(self, n: int) -> int:
        """The reduction that is decoded for level `n`."""
        return min(n, self.usable_reductions)


@dataclass(frozen=True, slots=True)
class Jp2Layout:
    """The headers of a file, and where its tile-parts are."""

    header: Jp2Header
    index: TileIndex
    by_resolution: bool
    """True if each tile has one tile-part for each resolution, low resolutions first."""
    by_parts: bool = False
    """True if the lists of the file are used to read less of it. Each header of a tile-part must
    then be compared with them before it is used.
    """

    @property
    def stream(self) -> Codestream:
        """The main header of the codestream."""
        return self.header.stream

    @property
    def is_indivisible(self) -> bool:
        """True for untiled HTJ2K, of which only the whole image is decoded rightly."""
        return self.stream.high_throughput and not self.stream.tiled


def parse_header(file: BinaryIO) -> Jp2Header:
    """The header of an open file, or of its first bytes in memory. Raises Damaged, Unsupported."""
    boxes = read_boxes(file)
    stream = parse_codestream(file, boxes.start)
    return Jp2Header(boxes, stream, plan_channels(boxes, stream.components))


def read_header(path: Path) -> Jp2Header:
    """The header of the file at `path`. Raises Damaged, Unsupported, OSError."""
    with path.open("rb") as file:
        return parse_header(file)


def read_layout(path: Path, *, by_parts: bool = False) -> Jp2Layout:
    """The layout of the file at `path`, which may lack tile-parts of high resolutions.

    Raises Damaged, Unsupported, OSError.
    """
    with path.open("rb", buffering=0) as file:
        return parse_layout(file, by_parts=by_parts)


def parse_layout(file: BinaryIO, *, by_parts: bool, max_parts: int = MAX_TILE_PARTS) -> Jp2Layout:
    """The layout of an open file. `by_parts`: its list of tile-parts is used, if it has one that
    fits. Otherwise the headers of all tile-parts are read, at most `max_parts`.

    Raises Damaged, Unsupported, OSError.
    """
    header = parse_header(file)
    stream, end = header.stream, header.boxes.end
    index = list_tile_index(file, stream, end) if by_parts else None
    index = index or read_tile_index(file, stream, end, max_parts=max_parts)
    if index.levels < stream.levels:  # the header of a tile says so
        header = replace(header, stream=replace(stream, levels=index.levels))
    counts = {len(parts) for parts in index.parts.values()}
    parts = [part for tile in index.parts.values() for part in tile]
    by_resolution = counts == {stream.levels + 1} and bool(prefix_lengths(parts, stream))
    return Jp2Layout(header, index, by_resolution, by_parts)


def read_whole_layout(path: Path) -> Jp2Layout:
    """As `read_layout`. Raises Damaged also if a tile or a tile-part is missing."""
    layout = read_layout(path)
    if not layout.index.is_whole:
        raise Damaged(INCOMPLETE)
    return layout
