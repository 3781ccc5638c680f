"""The cost of a recipe is that of the file at hand, whatever levels its record advertises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.imaging import pool as pools
from orchestrator.imaging.picture_headers import identify, read_headers
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.render_cost import cost_of, decoded_pixels
from orchestrator.model import SourceKind
from tests.golden.comparison import a_recipe, decode
from tests.support import pictures
from tests.unit.imaging.conftest import SMALL


def without_levels(path: Path, width: int, height: int) -> Path:
    """A JPEG2000 file without decomposition levels."""
    pictures.picture(width, height).save(path, "JPEG2000", num_resolutions=1)
    return path


def striped_tiff(path: Path, width: int, height: int) -> Path:
    pictures.picture(width, height).save(path, "TIFF")
    return path


FILES: dict[str, tuple[Any, int, int]] = {
    # (make, pixels decoded for the overview of 100 x 75, for a tile of 256 pixels)
    "jp2 without levels": (without_levels, 1600 * 1200, 256 * 256),
    "jp2 with levels": (pictures.jp2_untiled, 100 * 75, 256 * 256),
    "pyramid": (pictures.pyramid_tiff, 200 * 150, 256 * 256),
    "tiff in strips": (striped_tiff, 1600 * 1200, 1600 * 1200),
    "png": (pictures.png, 1600 * 1200, 1600 * 1200),
    "jpeg": (pictures.jpeg, 400 * 1200, 1600 * 1200),
}


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_decoded_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    make, overview, tile = FILES[name]
    picture = read_headers(identify(str(make(tmp_path / "file", 1600, 1200))))
    assert decoded_pixels(picture, (0, 0, 1600, 1200), (100, 75)) == overview
    assert decoded_pixels(picture, (512, 512, 256, 256), (256, 256)) == tile


def test_the_canvas_of_a_rotated_image_is_what_is_encoded() -> None:
    recipe = Recipe("", SourceKind.PYRAMID_TIFF, (1000, 1000), 0, (0, 0, 1000, 1000), (1000, 1000))
    turned = Recipe(
        "", SourceKind.PYRAMID_TIFF, (1000, 1000), 0, (0, 0, 1000, 1000), (1000, 1000), rotation=45
    )
    assert cost_of(recipe, 0, is_jpeg2000=False) == 1_000_000
    assert cost_of(turned, 0, is_jpeg2000=False) == 1415**2


async def test_an_overview_of_a_file_without_levels_leaves_the_tile_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "TILE_LANE_PIXELS", 500_000)
    path = without_levels(tmp_path / "flat.jp2", 1500, 1200)
    prober, pool = ImagingPool(SMALL), ImagingPool(SMALL)
    try:
        probe = await prober.probe(path)
        assert probe.kind is SourceKind.ORIGINAL
        tile = a_recipe(path, probe, region=(0, 0, 256, 256), size=(256, 256), format="jpg")
        assert await pool.render(tile)
        assert not pool._heavy.pids
        overview = a_recipe(path, probe, size=(250, 200), format="jpg")
        body = await pool.render(overview)
        assert pool._heavy.pids
    finally:
        await prober.close()
        await pool.close()

    assert decode(body).shape == (200, 250, 3)
