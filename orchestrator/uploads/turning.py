"""Turns the file of a picture by quarter turns: a JPEG by its orientation, so that no pixel
changes; others by their pixels.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.catalog.uploads import Region
from orchestrator.errors import InvalidInput
from orchestrator.iiif.scale import Dimensions
from orchestrator.imaging.formats.jpeg_orientation import turned, with_orientation
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder, Probe, Recipe

QUARTERS = {"90": 1, "180": 2, "-90": 3}
"""The rotations that a request can name, in degrees, as quarter turns clockwise."""
_BEST = Encoder(jpeg_quality=100, webp_quality=100, avif_quality=100, png_compression=9)
_TURNED_BY_PIXELS = frozenset(("png", "gif", "webp"))


def parse_rotation(text: str) -> int:
    """The quarter turns clockwise of a rotation; "" is 90 degrees. Raises InvalidInput."""
    if text and text not in QUARTERS:
        raise InvalidInput("rotation should be 90, -90 or 180.")
    return QUARTERS[text or "90"]


def check_turnable(extension: str) -> None:
    """Raises InvalidInput for a picture of a kind that is not turned."""
    if extension != "jpg" and extension not in _TURNED_BY_PIXELS:
        raise InvalidInput(f"A picture of the kind {extension} cannot be rotated.")


async def turn_file(
    pool: ImagingPool, path: Path, target: Path, *, probe: Probe, quarters: int
) -> None:
    """Write the turned picture to `target`. Raises Unprocessable, TooLarge, Overloaded."""
    if probe.format == "jpeg":
        orientation = turned(probe.orientation, quarters)
        await asyncio.to_thread(_write_oriented, path, target, orientation)
        return
    recipe = Recipe(
        str(path),
        probe.kind,
        probe.dimensions,
        probe.levels,
        (0, 0, *probe.dimensions),
        probe.dimensions,
        rotation=90.0 * quarters,
        format=probe.extension,
        encoder=_BEST,
    )
    is_animated = probe.pages > 1 and probe.format in ("gif", "webp")
    body = await (pool.animate(recipe) if is_animated else pool.render(recipe))
    await asyncio.to_thread(target.write_bytes, body)


def turned_region(region: Region, dimensions: Dimensions, quarters: int) -> Region:
    """Where a region of a picture of these dimensions is after the turns."""
    x, y, width, height = region
    full_width, full_height = dimensions
    for _ in range(quarters):
        x, y, width, height = full_height - y - height, x, height, width
        full_width, full_height = full_height, full_width
    return x, y, width, height


def _write_oriented(path: Path, target: Path, orientation: int) -> None:
    target.write_bytes(with_orientation(path.read_bytes(), orientation))
