"""Shapes a picture: the original as it is, or a region of it in another size, format and quality.

All arithmetic is in `shapes.py`, all work on pixels in the imaging pool.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cachetools import LRUCache

from orchestrator import metrics
from orchestrator.cache.disk.file_names import Product
from orchestrator.errors import TooLarge
from orchestrator.imaging.formats.file_type import MEDIA_TYPES, sniff
from orchestrator.imaging.picture_headers import FileIdentity, identify
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder, Probe, Recipe
from orchestrator.model import SourceKind
from orchestrator.settings import Ico
from orchestrator.transform.parameters import NamedFormat, Parameters
from orchestrator.transform.shapes import (
    Original,
    Picture,
    Shape,
    TransformFormat,
    keeps_frames,
    needs_attention,
    output_format,
    plan_shape,
)

Tier = Literal["disk", "stored", "original", "resize"]
_HEAD_BYTES = 4096
_PROBES_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Result:
    """Encoded bytes, their media type, and the tier that they come from."""

    body: bytes
    media_type: str
    tier: Tier
    is_original: bool = False
    """True if the bytes are those of the original."""
    product: Product | None = None
    """What the disk cache has, or will soon have, the bytes as."""


class PictureShaper:
    """Shapes the pictures of one process."""

    def __init__(self, pool: ImagingPool, limits: Ico) -> None:
        self._pool = pool
        self._limits = limits
        self._probes: LRUCache[FileIdentity, Probe] = LRUCache(_PROBES_KEPT)

    async def shape(
        self, path: Path, parameters: Parameters, accepted: NamedFormat
    ) -> tuple[Picture, Result]:
        """What the file is, and what the parameters make of it. `accepted` is the format of a shape
        if the parameters name none, "" for that of the original.

        Raises Unprocessable, TooLarge, Overloaded, FileNotFoundError.
        """
        probe = await self._probe(path)
        picture = self._check(probe)
        point = None
        if needs_attention(parameters, picture):
            point = await self._pool.attention(path, probe)
        shape = plan_shape(parameters, picture, point)
        if isinstance(shape, Original):
            body = await asyncio.to_thread(_read, path, self._limits.max_bytes)
            return picture, Result(body, probe.media_type, "original", is_original=True)
        if shape.size[0] * shape.size[1] > self._limits.max_pixels:
            raise TooLarge(f"The result has more than {self._limits.max_pixels} pixels.")
        if accepted and not parameters.format and not keeps_frames(parameters, picture):
            parameters = replace(parameters, format=accepted)
        metrics.RENDERS.inc()
        recipe = _recipe(path, probe, parameters, output_format(parameters, picture), shape)
        if keeps_frames(parameters, picture):
            body = await self._pool.animate(recipe)
        else:
            body = await self._pool.render(recipe)
        return picture, Result(body, media_type_of(body), "resize")

    async def _probe(self, path: Path) -> Probe:
        """The probe of a file, remembered until the file is replaced: a probe decodes a part of it,
        which takes a fifth of the time of a small result.
        """
        identity = await asyncio.to_thread(identify, str(path))
        probe = self._probes.get(identity)
        if probe is None:
            probe = self._probes[identity] = await self._pool.probe(path)
        return probe

    def _check(self, probe: Probe) -> Picture:
        is_decoded_whole = probe.kind is SourceKind.ORIGINAL
        if is_decoded_whole and probe.width * probe.height > self._limits.max_pixels:
            raise TooLarge(f"The original has more than {self._limits.max_pixels} pixels.")
        if probe.pages > self._limits.max_frames:
            raise TooLarge(f"The original has more than {self._limits.max_frames} frames.")
        return Picture(probe.width, probe.height, probe.pages, probe.format, probe.has_alpha)


def _recipe(
    path: Path, probe: Probe, parameters: Parameters, output: TransformFormat, shape: Shape
) -> Recipe:
    quality = parameters.quality
    return Recipe(
        str(path),
        probe.kind,
        probe.dimensions,
        probe.levels,
        shape.region,
        shape.size,
        format=output,
        encoder=Encoder(quality, quality, quality, png_compression=min(quality // 10, 9)),
    )


def media_type_of(body: bytes) -> str:
    """The media type of an encoded picture, by its first bytes. Raises NotAnImage."""
    if body[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return MEDIA_TYPES[sniff(body[:_HEAD_BYTES])][0]


def _read(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file. Blocking. Raises TooLarge."""
    if path.stat().st_size > max_bytes:
        raise TooLarge(f"The original has more than {max_bytes} bytes.")
    return path.read_bytes()
