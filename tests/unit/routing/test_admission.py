"""The two lanes in front of a pool: tiles always pass, whole images are limited in number and in
memory.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.errors import Overloaded, TooLarge
from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import SourceKind
from orchestrator.routing.image_servers.admission import Admission
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from tests.support.builders import a_source, an_asset
from tests.support.patience import patience

DIMENSIONS = (4000, 3000)
PIXELS = 4000 * 3000
BYTES = 2 * PIXELS * 4
"""Estimated for the whole picture at its full size: decoded and as the result."""


def image(path: str):
    limits = Limits(max_area=10**9)
    return resolve(parse_image_request(tuple(path.split("/")), 3), DIMENSIONS, limits)


TILE = image("0,0,1024,1024/512,512/0/default.jpg")
WHOLE = image("full/max/0/default.jpg")
SMALL = image("full/200,/0/default.jpg")


def asset(kind: SourceKind = SourceKind.JPEG2000):
    return an_asset(width=4000, height=3000, source=a_source(kind=kind, levels=5))


def admission(*, at_once: int = 1, memory: int = 0, queue: int = 8, timeout_s: float = 60):
    return Admission("test", at_once=at_once, memory=memory, queue=queue, timeout_s=timeout_s)


class Work:
    """Work that runs until it is ended."""

    def __init__(self, lane: Admission, wanted=WHOLE, of=None) -> None:
        self.is_running = False
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(lane, wanted, of or asset()))

    async def _run(self, lane: Admission, wanted, of) -> None:
        async with lane.admit(of, wanted):
            self.is_running = True
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tiles_pass_while_whole_images_fill_their_lane() -> None:
    lane = admission(at_once=2)
    fulls = [Work(lane) for _ in range(4)]
    tiles = [Work(lane, TILE) for _ in range(20)]
    small = Work(lane, SMALL)
    await settle()
    assert [each.is_running for each in fulls] == [True, True, False, False]
    assert all(each.is_running for each in tiles)
    assert small.is_running, "a level of the picture makes it as cheap as a tile"
    for each in [*fulls, *tiles, small]:
        await each.end()


async def test_whole_images_start_in_order_as_others_end() -> None:
    lane = admission()
    first, second, third = (Work(lane) for _ in range(3))
    await settle()
    assert (first.is_running, second.is_running, third.is_running) == (True, False, False)
    await first.end()
    await settle()
    assert (second.is_running, third.is_running) == (True, False)
    await second.end()
    await third.end()


async def test_memory_that_is_not_free_now_is_waited_for() -> None:
    lane = admission(at_once=10, memory=int(2.5 * BYTES))
    works = [Work(lane) for _ in range(3)]
    await settle()
    assert [each.is_running for each in works] == [True, True, False]
    await works[0].end()
    await settle()
    assert works[2].is_running
    for each in works[1:]:
        await each.end()


async def test_an_image_that_never_fits_in_memory_is_too_large() -> None:
    with pytest.raises(TooLarge):
        async with admission(memory=BYTES - 1).admit(asset(), WHOLE):
            pass
    async with admission(memory=BYTES).admit(asset(), WHOLE):
        pass


async def test_a_large_original_gets_all_memory_because_only_its_decoder_knows_what_it_needs() -> (
    None
):
    lane = admission(at_once=10, memory=BYTES // 2)
    first, second = (Work(lane, WHOLE, asset(SourceKind.ORIGINAL)) for _ in range(2))
    await settle()
    assert (first.is_running, second.is_running) == (True, False)
    await first.end()
    await second.end()


async def test_a_full_queue_and_a_long_wait_are_overload_with_a_time_to_retry() -> None:
    lane = admission(queue=1, timeout_s=0.05)
    running, waiting = Work(lane), Work(lane)
    await settle()
    with pytest.raises(Overloaded) as full:
        async with lane.admit(asset(), WHOLE):
            pass
    assert full.value.retry_after_s > 0
    with pytest.raises(Overloaded):
        await waiting.task
    await running.end()
    async with lane.admit(asset(), WHOLE):
        pass


async def test_a_caller_that_leaves_gives_its_place_back() -> None:
    lane = admission()
    running, waiting, last = (Work(lane) for _ in range(3))
    await settle()
    waiting.task.cancel()
    running.task.cancel()
    for each in (waiting, running):
        with suppress(asyncio.CancelledError):
            await each.task
    await settle()
    assert last.is_running
    await last.end()
    async with lane.admit(asset(), WHOLE):
        pass


async def test_a_caller_that_leaves_at_the_moment_of_its_admission_gives_its_place_back() -> None:
    lane = admission()
    running, waiting = Work(lane), Work(lane)
    await settle()
    running._end.set()
    while not running.task.done():
        await asyncio.sleep(0)
    waiting.task.cancel()
    with suppress(asyncio.CancelledError):
        await waiting.task
    async with asyncio.timeout(30 * patience()), lane.admit(asset(), WHOLE):
        pass


async def test_the_built_in_renderer_refuses_before_it_decodes() -> None:
    class NoPool:
        """An imaging pool that must not be used."""

    renderer = BuiltinImageServer(NoPool(), Encoder(), admission(memory=BYTES - 1))  # type: ignore[arg-type]
    with pytest.raises(TooLarge):
        await renderer.render(asset(), Path("/nowhere.jp2"), WHOLE)
