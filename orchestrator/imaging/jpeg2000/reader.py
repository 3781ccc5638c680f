"""Regions of a JPEG2000 file at one reduction, decoded by OpenJPEG, as images in declared form.

Of a tiled file a decoder gets only the tiles that an area touches, because OpenJPEG decodes only
one area of a tiled file; of a large tile with listed packets only those of the area. Without a list
the decoder of an untiled file is kept. Large areas are decoded in blocks, so that the memory for
decoding is bounded.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import TooLarge
from orchestrator.imaging.jpeg2000.area_decoder import AreaDecoder, Plane, first_sample
from orchestrator.imaging.jpeg2000.assembly import Assembler
from orchestrator.imaging.jpeg2000.binding import OpenJpeg
from orchestrator.imaging.jpeg2000.channels import compose, compose_plain, crop, spread
from orchestrator.imaging.jpeg2000.codestream import Area
from orchestrator.imaging.jpeg2000.jp2_layout import Jp2Layout
from orchestrator.imaging.recipes import Region

_BLOCK_SAMPLES = 12_000_000
"""Samples that are decoded at once. OpenJPEG needs 8 bytes for each."""
_BYTES_PER_SAMPLE = 8
_UNLIMITED = 8 * 1024**3
_TILED_BYTES = 4096
_DECODER_BYTES_PER_PIXEL = 1
"""A decoder keeps the file and, measured, about one byte for each pixel of full scale."""
_MEMORY_SHARE = 2
"""One area may use this fraction (1/n) of the memory that the process may use."""


class Reader:
    """One file at one reduction, which is one that `Jp2Header.base_reduction` returns."""

    def __init__(self, openjpeg: OpenJpeg, layout: Jp2Layout, path: str, reduction: int) -> None:
        self._openjpeg = openjpeg
        self._layout = layout
        self._path = path
        self._reduction = reduction
        self._assembler = Assembler(layout)
        self._kept: AreaDecoder | None = None
        left, top, right, bottom = layout.stream.area
        self._origin = left >> reduction, top >> reduction
        self.dimensions = (
            -(-right >> reduction) - self._origin[0],
            -(-bottom >> reduction) - self._origin[1],
        )

    def read(self, left: int, top: int, width: int, height: int) -> Any:
        """A rectangle of the reduced image, in memory.

        Raises CodestreamError, Damaged, TooLarge, UnsafeParts, FileNotFoundError.
        """
        rows = [
            _join([self._read_block(block) for block in row], "horizontal")
            for row in self._blocks((left, top, width, height))
        ]
        return _join(rows, "vertical")

    def _blocks(self, region: Region) -> Iterator[list[Region]]:
        """Rows of blocks that together are `region`. They end where tiles end, if tiles are not too
        large.
        """
        left, top, width, height = region
        stream, n = self._layout.stream, self._reduction
        pixels = max(64 * 64, _BLOCK_SAMPLES // len(stream.components))
        if width * height <= pixels or self._layout.is_indivisible:
            yield [region]
            return
        tile = [max(1, edge >> n) for edge in stream.tile_size]
        origin = [
            (at >> n) - start for at, start in zip(stream.tile_origin, self._origin, strict=True)
        ]
        across, rows = width, max(64, pixels // width)
        if stream.tiled:
            across = max(1, pixels // (tile[0] * tile[1])) * tile[0]
            rows = min(tile[1], max(64, pixels // across))
        for y, h in _divide(top, height, rows, origin[1]):
            yield [(x, y, w, h) for x, w in _divide(left, width, across, origin[0])]

    def _read_block(self, region: Region) -> Any:
        """A rectangle that is decoded at once, in memory."""
        n, plan = self._reduction, self._layout.header.plan
        area = area_of(self._layout, n, region)
        components = {channel.component for channel in plan.channels}
        origin = area[0] >> n, area[1] >> n
        size = -(-area[2] >> n) - origin[0], -(-area[3] >> n) - origin[1]
        self._check_memory(size[0] * size[1])
        decoder, decoded_area = self._open_decoder(area)
        try:
            with decoder.decode(decoded_area, components) as planes:
                if plan.is_plain and self._layout.stream.subsampling == (1, 1):
                    image = compose_plain(planes, plan)
                else:
                    image = compose(self._spread_planes(planes, area, size), plan)
                inside = (
                    region[0] + self._origin[0] - origin[0],
                    region[1] + self._origin[1] - origin[1],
                    *region[2:],
                )
                return crop(image, inside).copy_memory()
        finally:
            if decoder is not self._kept:
                decoder.close()

    def _spread_planes(
        self, planes: Mapping[int, Plane], area: Area, size: tuple[int, int]
    ) -> dict[int, Any]:
        """Images of the decoded planes of `area`, all of `size`."""
        n, left, top = self._reduction, area[0] >> self._reduction, area[1] >> self._reduction
        images = {}
        for number, plane in planes.items():
            kind = self._layout.stream.components[number]
            offset = (
                first_sample(area[0], kind.dx, n) * kind.dx - left,
                first_sample(area[1], kind.dy, n) * kind.dy - top,
            )
            images[number] = spread(plane.as_image(), (kind.dx, kind.dy), offset, size)
        return images

    def _check_memory(self, pixels: int) -> None:
        """Raises TooLarge for an area that needs more memory than one decode may use."""
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        limit = _UNLIMITED if limit in (resource.RLIM_INFINITY, -1) else limit
        needed = pixels * len(self._layout.stream.components) * _BYTES_PER_SAMPLE
        if needed > limit // _MEMORY_SHARE:
            raise TooLarge(
                "The JPEG2000 file has a tile that needs more memory than one decode may use. "
                "Write the file with smaller tiles."
            )

    def _open_decoder(self, area: Area) -> tuple[AreaDecoder, Area]:
        """A decoder, and `area` on its reference grid."""
        if self._kept is not None and area != self._layout.stream.area:
            return self._kept, area
        stream, n = self._layout.stream, self._reduction
        file = Path(self._path).open("rb", buffering=0)  # noqa: SIM115  # the decoder closes it
        try:
            assembly = self._assembler.assemble(file, area, n)
            keeps = not stream.tiled and self._assembler.packet_index(file, 0) is None
        except BaseException:  # closes the file, whatever happened, and raises again
            file.close()
            raise
        decoder = AreaDecoder(self._openjpeg, stream, file, assembly.pieces, assembly.reduction)
        # A decoder that has decoded the whole image has freed what it parsed.
        if keeps and area != stream.area:
            self._kept = decoder
        return decoder, assembly.area

    def kept_bytes(self) -> int:
        """An estimate of the memory that this reader keeps between reads: the index of the packets
        of an untiled file, or a decoder. Raises UnsafeParts, FileNotFoundError.
        """
        stream = self._layout.stream
        if stream.tiled:
            return _TILED_BYTES
        with Path(self._path).open("rb", buffering=0) as file:
            if self._assembler.packet_index(file, 0) is not None:
                return self._assembler.kept_bytes
            width, height = stream.dimensions
            return os.fstat(file.fileno()).st_size + width * height * _DECODER_BYTES_PER_PIXEL

    def close(self) -> None:
        """Release the decoder. The reader opens another one if it is used again."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def area_of(layout: Jp2Layout, n: int, region: Region) -> Area:
    """The area of the reference grid to decode for a region of reduction `n`: whole samples of all
    components, and whole tiles where a part of one cannot be decoded.
    """
    stream = layout.stream
    steps = [step << n for step in stream.subsampling]
    area = list(stream.area)
    for axis in (0, 1):
        origin = stream.area[axis] >> n
        first = (origin + region[axis]) << n
        last = (origin + region[axis] + region[axis + 2]) << n
        step, edge, start = steps[axis], stream.tile_size[axis], stream.tile_origin[axis]
        if stream.high_throughput:  # OpenJPEG 2.5.0 decodes a part of a large tile wrongly
            first = start + (first - start) // edge * edge
            last = start + -(-(last - start) // edge) * edge
            step = 1 << n
        area[axis] = max(area[axis], first // step * step)
        area[axis + 2] = min(area[axis + 2], -(-last // step) * step)
    return area[0], area[1], area[2], area[3]


def _divide(start: int, length: int, step: int, origin: int) -> Iterator[tuple[int, int]]:
    """(start, length) of pieces of at most `step`, which end at multiples of `step` from
    `origin`.
    """
    at, end = start, start + length
    while at < end:
        following = min(end, origin + ((at - origin) // step + 1) * step)
        yield at, following - at
        at = following


def _join(images: list[Any], direction: str) -> Any:
    """Images side by side or one below the other, in memory."""
    if len(images) == 1:
        return images[0]
    joined = images[0]
    for image in images[1:]:
        joined = joined.join(image, direction)
    return joined.copy_memory()
