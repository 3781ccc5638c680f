"""Whole images use workers that are idle, and never the last one that tiles have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from orchestrator.errors import Overloaded
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Recipe
from orchestrator.imaging.workers.whole_images import WholeImagePlaces
from orchestrator.model import SourceKind
from tests.golden.comparison import a_recipe
from tests.support import pictures
from tests.unit.imaging.conftest import SMALL
from tests.unit.imaging.test_pool import _wait_until

EDGE = 2000
WHOLE = Recipe("", SourceKind.JPEG2000, (EDGE, EDGE), 0, (0, 0, EDGE, EDGE), (EDGE, EDGE))
TILE = Recipe("", SourceKind.JPEG2000, (EDGE, EDGE), 0, (0, 0, 512, 512), (512, 512))


@pytest.fixture
async def pool() -> AsyncIterator[ImagingPool]:
    """A pool with two workers and two threads for tiles."""
    pool = ImagingPool(SMALL.model_copy(update={"processes": 2, "threads": 2}))
    yield pool
    await pool.close()


class Work:
    """A derivative that is made until `end`."""

    def __init__(self, places: WholeImagePlaces, recipe: Recipe) -> None:
        self.is_beside_tiles: bool | None = None
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(places, recipe))

    async def _run(self, places: WholeImagePlaces, recipe: Recipe) -> None:
        async with places.take(recipe) as self.is_beside_tiles:
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_second_whole_image_takes_a_free_worker_of_the_other_lane(
    pool: ImagingPool,
) -> None:
    works = [Work(pool._places, WHOLE) for _ in range(2)]
    works += [Work(pool._places, TILE) for _ in range(8)]
    await settle()
    assert [each.is_beside_tiles for each in works] == [True, False, *[True] * 8]
    for each in works:
        await each.end()


async def test_whole_images_wait_where_only_the_last_worker_of_tiles_is_free(
    pool: ImagingPool,
) -> None:
    conversions = [asyncio.create_task(_sleep(pool)) for _ in range(2)]
    await _wait_until(lambda: not pool._heavy.has_free_worker)
    first, second, tile = (Work(pool._places, each) for each in (WHOLE, WHOLE, TILE))
    await settle()
    assert [each.is_beside_tiles for each in (first, second, tile)] == [True, None, True]
    await first.end()
    await settle()
    assert second.is_beside_tiles
    for each in (second, tile):
        await each.end()
    pool._heavy.close()
    await asyncio.gather(*conversions, return_exceptions=True)


async def test_a_lane_of_one_worker_keeps_it_for_tiles_while_the_other_lane_has_one(
    pool: ImagingPool,
) -> None:
    places = WholeImagePlaces(1, 1, pool._heavy)
    alone = Work(places, WHOLE)
    await settle()
    assert alone.is_beside_tiles is False
    await alone.end()
    conversions = [asyncio.create_task(_sleep(pool)) for _ in range(2)]
    await _wait_until(lambda: not pool._heavy.has_free_worker)
    works = [Work(places, WHOLE) for _ in range(3)]
    await settle()
    assert [each.is_beside_tiles for each in works] == [True, None, None]
    tile = Work(places, TILE)
    await settle()
    assert tile.is_beside_tiles
    with pytest.raises(Overloaded):
        await works[2].task
    works[1].task.cancel()
    await works[0].end()
    await tile.end()
    pool._heavy.close()
    await asyncio.gather(*conversions, works[1].task, return_exceptions=True)


def test_places_serve_one_event_loop_after_another() -> None:
    places = WholeImagePlaces(2, 8, _BusyLane())  # type: ignore[arg-type]

    async def use() -> None:
        works = [Work(places, WHOLE) for _ in range(3)]
        await settle()
        assert [each.is_beside_tiles for each in works] == [True, None, None]
        for each in works:
            await each.end()

    for _ in range(2):
        asyncio.run(use())


class _BusyLane:
    has_free_worker = False


async def test_two_whole_images_at_once_are_made_in_both_lanes(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = pictures.jp2_untiled(tmp_path / "a", 1600, 1300)
    recipe = a_recipe(path, await pool.probe(path))
    assert recipe.is_whole_image
    heavy_before_s = _processor_s(pool._heavy.pids[0])
    first, second = await asyncio.gather(pool.render(recipe), pool.render(recipe))
    assert first == second
    assert pool._tiles.pids
    assert _processor_s(pool._heavy.pids[0]) - heavy_before_s > 0.1


def _processor_s(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


async def _sleep(pool: ImagingPool) -> None:
    await pool._heavy.run(time.sleep, 60, timeout_s=90)
