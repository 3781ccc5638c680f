"""A tile is read on the event loop only from the file whose directories are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.imaging.picture_headers import identify, read_headers
from orchestrator.imaging.ready_tiles import ReadyTiles, tile_file_of
from orchestrator.imaging.recipes import Recipe
from orchestrator.model import SourceKind, file_fingerprint
from tests.support.scenes import write_pyramid

SIZE = (600, 400)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ready") / "pyramid.tif"
    write_pyramid(path, *SIZE, seed=1)
    return path


@pytest.fixture
def path(pyramid: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy2(pyramid, tmp_path / "copy.tif"))


@pytest.fixture
def tiles(path: Path) -> ReadyTiles:
    tiles = ReadyTiles()
    tiles.add(tile_file_of(read_headers(identify(str(path)))))
    return tiles


def recipe(path: Path, x: int = 256, size: int = 256) -> Recipe:
    region = (x, 0, size, size)
    kind = SourceKind.PYRAMID_TIFF
    return Recipe(str(path), kind, SIZE, 1, region=region, size=(size, size))


def test_a_stored_tile_is_read_and_another_region_is_not(path: Path, tiles: ReadyTiles) -> None:
    body = tiles.read(recipe(path))
    assert body is not None
    assert body.startswith(b"\xff\xd8")
    assert tiles.read(recipe(path, x=250)) is None
    assert tiles.read(recipe(path, size=100)) is None


def test_an_unknown_file_is_not_read(path: Path) -> None:
    assert ReadyTiles().read(recipe(path)) is None


def test_a_replaced_file_is_not_read_with_the_directories_of_the_old_one(
    path: Path, tiles: ReadyTiles
) -> None:
    shutil.copy2(path, path.with_name("new.tif"))
    path.with_name("new.tif").replace(path)
    assert tiles.read(recipe(path)) is None
    assert not tiles.is_known(str(path)), "a thread reads its directories again"


def test_a_file_that_is_not_the_recorded_one_is_not_read(path: Path, tiles: ReadyTiles) -> None:
    recorded = file_fingerprint(path.stat())
    assert tiles.read(recipe(path), lambda status: file_fingerprint(status) == recorded)
    assert tiles.read(recipe(path), lambda status: file_fingerprint(status) == "other") is None


def test_a_deleted_file_is_not_read(path: Path, tiles: ReadyTiles) -> None:
    path.unlink()
    assert tiles.read(recipe(path)) is None


def test_no_descriptor_stays_open(path: Path, tiles: ReadyTiles) -> None:
    assert tiles.read(recipe(path))
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [link for link in links if link.resolve() == path]
