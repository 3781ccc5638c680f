"""The sample collection of `make run`."""

from __future__ import annotations

from pathlib import Path

import pytest
import pyvips

from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.samples import COLLECTION, make_samples
from orchestrator.settings import Imaging


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    assert len(list(make_samples(folder, side=640))) == len(COLLECTION)
    return folder


async def test_every_sample_is_rendered_by_the_decode_workers(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(COLLECTION)
    pool = ImagingPool(Imaging(processes=1, threads=1))
    try:
        for path in folder.iterdir():
            probe = await pool.probe(path)
            whole = (0, 0, probe.width, probe.height)
            recipe = Recipe(str(path), probe.kind, whole[2:], probe.levels, whole, (64, 48))
            assert (await pool.render(recipe)).endswith(b"\xff\xd9"), path.name
    finally:
        await pool.close()


def test_the_landscape_is_a_tiled_pyramid_of_land_and_sea(folder: Path) -> None:
    image = pyvips.Image.new_from_file(str(folder / "landscape.tif"))
    assert (image.width, image.height, image.get("n-pages")) == (640, 640, 3)
    blue, green = image[2] > image[1], image[1] > image[2]
    assert 0.2 < blue.avg() / 255 < 0.8
    assert 0.2 < green.avg() / 255 < 0.8


def test_the_islands_picture_has_an_exif_orientation(folder: Path) -> None:
    image = pyvips.Image.new_from_file(str(folder / "islands.jpg"))
    assert image.get("orientation") == 6


def test_existing_samples_are_not_written_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    list(make_samples(folder, side=640))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
