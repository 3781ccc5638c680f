"""A pool of several image servers: nodes that die, hang, are slow or saturated, and what the caller
notices of it.
"""

from __future__ import annotations

import asyncio
import io
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from orchestrator import metrics
from orchestrator.errors import ImageServerUnavailable, Overloaded, TooLarge
from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.model import AssetId, SourceKind
from orchestrator.routing.image_servers.affinity import rank
from orchestrator.routing.image_servers.node_breaker import FAILURES_TO_OPEN
from orchestrator.routing.image_servers.node_figures import node_figures
from orchestrator.routing.image_servers.pool_client import IDLE_S, PoolClient, PoolRequest
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.settings import ImageServerPool
from tests.support.builders import a_source, an_asset
from tests.support.image_nodes import FULL_SIZE, ImageNode, image_nodes
from tests.support.patience import patience

TILES = [f"{x},{y},256,256/256,/0/default.jpg" for x in range(0, 3584, 256) for y in (0, 256)]
NEVER_S = 600.0


def image(path: str):
    return resolve(parse_image_request(tuple(path.split("/")), 3), FULL_SIZE, Limits())


def asset(number: int = 0):
    source = a_source(kind=SourceKind.JPEG2000, extension="jp2", location=f"store:{number}.jp2")
    return an_asset(
        id=AssetId(1, 1, f"page-{number}"), width=FULL_SIZE[0], height=FULL_SIZE[1], source=source
    )


@pytest.fixture
def two() -> Iterator[list[ImageNode]]:
    with image_nodes(2) as nodes:
        yield nodes


class NoRenderer:
    """A fallback that must not be used."""

    async def render(self, asset, path, image):
        raise AssertionError

    async def check(self):
        return ""

    async def close(self):
        pass


@asynccontextmanager
async def pool_of(
    nodes: list[ImageNode], *, watched: bool = False, name: str = "test", **settings
) -> AsyncIterator[RemotePool]:
    """A pool of these nodes that reads objects, so that no file is needed."""
    values = {"canary_s": patience() if watched else NEVER_S, "reads": "objects", **settings}
    pool = RemotePool(
        ImageServerPool(addresses=[node.address for node in nodes], **values), NoRenderer(), name
    )
    watch = asyncio.create_task(pool.run() if pool.is_watched else asyncio.sleep(0))
    try:
        yield pool
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await pool.close()


async def make(pool: RemotePool, path: str = TILES[0], number: int = 0) -> tuple[int, int]:
    """The size of an image that the pool makes."""
    body = await pool.render_object(asset(number), f"{number}.jp2", image(path))
    return Image.open(io.BytesIO(body)).size


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60 * patience()
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def preferred(nodes: list[ImageNode], number: int = 0) -> list[ImageNode]:
    """The nodes in the order in which this asset prefers them."""
    by_address = {node.address: node for node in nodes}
    return [by_address[each] for each in rank(str(asset(number).id), list(by_address))]


def figures(name: str):
    return {each.node: each for each in node_figures(metrics.render_metrics().decode())
            if each.pool == name}  # fmt: skip


async def test_the_tiles_of_an_asset_go_to_one_node_and_assets_to_all(
    two: list[ImageNode],
) -> None:
    async with pool_of(two) as pool:
        for path in TILES[:6]:
            await make(pool, path)
        first, second = preferred(two)
        assert (len(first.targets), len(second.targets)) == (6, 0)
        for number in range(20):
            await make(pool, number=number)
        assert second.targets


@pytest.mark.parametrize("how", ["does not listen", "status 500", "status 503", "hangs"])
async def test_a_request_that_fails_is_tried_on_another_node(two: list[ImageNode], how) -> None:
    failing, other = preferred(two)
    if how == "does not listen":
        failing.stop()
    elif how == "hangs":
        failing.delay_s = NEVER_S
    else:
        failing.status = int(how.split()[1])
    async with pool_of(two, first_byte_timeout_s=1.5 * patience()) as pool:
        assert await make(pool) == (256, 256)
    assert len(other.targets) == 1


async def test_a_request_is_tried_again_only_once(two: list[ImageNode]) -> None:
    with image_nodes(1) as more:
        nodes = [*two, *more]
        for node in nodes:
            node.status = 500
        async with pool_of(nodes) as pool:
            with pytest.raises(ImageServerUnavailable):
                await make(pool)
        assert sum(len(node.targets) for node in nodes) == 2


async def test_a_node_that_fails_gets_no_requests_until_its_canary_is_answered(
    two: list[ImageNode],
) -> None:
    failing, other = preferred(two)
    async with pool_of(two, watched=True, name="breaker") as pool:
        await make(pool)
        failing.stop()
        for path in TILES[: FAILURES_TO_OPEN + 4]:
            assert await make(pool, path) == (256, 256)
        assert len(set(other.targets)) == FAILURES_TO_OPEN + 4  # its canary repeats one
        await until(
            lambda: figures("breaker")[failing.address].breaker == "open", "the breaker opens"
        )
        assert figures("breaker")[failing.address].last_error == "no connection"
        assert figures("breaker")[other.address].breaker == "closed"
        failing.start()
        await until(
            lambda: figures("breaker")[failing.address].breaker == "closed", "it closes again"
        )
        assert failing.targets[-1] == failing.targets[0], "the canary is an image that it has made"
        await make(pool, TILES[-1])
        assert any("/3328,256,256,256/" in each for each in failing.targets)
        assert not any("/3328,256,256,256/" in each for each in other.targets)


async def test_without_a_canary_one_request_half_opens_the_breaker(two: list[ImageNode]) -> None:
    (node,) = two[:1]
    node.status = 503
    async with pool_of([node], canary_s=0) as pool:
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(ImageServerUnavailable):
                await make(pool)
        requests = len(node.targets)
        with pytest.raises(ImageServerUnavailable):
            await make(pool)
        assert len(node.targets) == requests, "refused at once"
        node.status = 200

        async def is_answered() -> bool:
            try:
                return await make(pool) == (256, 256)
            except ImageServerUnavailable:
                return False

        deadline = time.monotonic() + 60 * patience()
        while not await is_answered():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def test_a_node_whose_canary_is_late_is_used_only_if_there_is_no_other(
    two: list[ImageNode],
) -> None:
    slow, other = preferred(two)
    async with pool_of(two, watched=True, name="slow") as pool:
        slow.delay_s = NEVER_S
        await until(lambda: figures("slow")[slow.address].state == "slow", "its canary is late")
        seen = len(slow.targets)
        for path in TILES[:6]:
            assert await make(pool, path) == (256, 256)
        assert len(slow.targets) == seen
        other.stop()
        slow.delay_s = 0.01
        await until(lambda: figures("slow")[other.address].state == "away", "the other one dies")
        assert await make(pool, TILES[7]) == (256, 256)


async def test_no_node_gets_more_requests_at_once_than_its_cap(two: list[ImageNode]) -> None:
    for node in two:
        node.delay_s = 0.05
    async with pool_of(two, connections=3) as pool:
        async with asyncio.TaskGroup() as group:
            for path in TILES:
                group.create_task(make(pool, path))
        assert [node.most_in_flight for node in two] == [3, 3]
        assert sum(len(node.targets) for node in two) == len(TILES)


async def test_a_saturated_pool_refuses_within_a_bounded_time(two: list[ImageNode]) -> None:
    for node in two:
        node.delay_s = NEVER_S
    async with pool_of(two, connections=1, queue=2, queue_timeout_s=0.5) as pool:
        running = [asyncio.create_task(make(pool, path)) for path in TILES[:2]]
        await until(lambda: all(node.in_flight for node in two), "both nodes are busy")
        waiting = [asyncio.create_task(make(pool, path)) for path in TILES[2:4]]
        await asyncio.sleep(0)
        started = time.monotonic()
        with pytest.raises(Overloaded) as full:
            await make(pool, TILES[5])
        assert full.value.retry_after_s >= 1
        for each in waiting:
            with pytest.raises(Overloaded):
                await each
        assert time.monotonic() - started < 30 * patience()
        for node in two:
            node.delay_s = 0
        assert await asyncio.gather(*running) == [(256, 256)] * 2
        assert await make(pool, TILES[6]) == (256, 256), "its connections are free again"


async def test_a_request_that_leaves_the_queue_leaves_its_place_to_others(
    two: list[ImageNode],
) -> None:
    (node,) = two[:1]
    node.delay_s = NEVER_S
    async with pool_of([node], connections=1) as pool:
        running = asyncio.create_task(make(pool, TILES[0]))
        await until(lambda: node.in_flight == 1, "the node is busy")
        leaving = asyncio.create_task(make(pool, TILES[1]))
        last = asyncio.create_task(make(pool, TILES[2]))
        await asyncio.sleep(0)
        leaving.cancel()
        node.delay_s = 0
        assert await running == await last == (256, 256)
        assert len(node.targets) == 2


async def test_requests_that_wait_are_refused_when_the_last_node_dies(
    two: list[ImageNode],
) -> None:
    (node,) = two[:1]
    node.delay_s = NEVER_S
    async with pool_of([node], watched=True, connections=1, queue_timeout_s=NEVER_S) as pool:
        running = asyncio.create_task(make(pool, TILES[0]))
        await until(lambda: node.in_flight == 1, "the node is busy")
        waiting = asyncio.create_task(make(pool, TILES[1]))
        await asyncio.sleep(0)
        node.stop()
        for each in (running, waiting):
            with pytest.raises(ImageServerUnavailable):
                await each


async def test_a_request_ends_with_the_total_time(two: list[ImageNode]) -> None:
    for node in two:
        node.delay_s = NEVER_S
    async with pool_of(two, total_timeout_s=0.3) as pool:
        started = time.monotonic()
        with pytest.raises(ImageServerUnavailable):
            await make(pool)
        assert time.monotonic() - started < 30 * patience()


async def test_a_connection_that_is_not_accepted_ends_with_the_connect_time(
    two: list[ImageNode],
) -> None:
    failing, other = preferred(two)
    failing.stop()
    with socket.create_server(("127.0.0.1", failing.port), backlog=0) as deaf, ExitStack() as stack:
        for _ in range(4):  # more than its backlog: the next one is not answered at all
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
        async with pool_of(two, connect_timeout_s=0.2) as pool:
            assert await make(pool) == (256, 256)
    assert len(other.targets) == 1


async def test_a_lost_connection_is_tried_again_on_the_only_node(two: list[ImageNode]) -> None:
    (node,) = two[:1]
    async with pool_of([node]) as pool:
        node.status = 502
        node.failures = 1
        assert await make(pool) == (256, 256)
        assert len(node.targets) == 2
        node.failures = 2
        with pytest.raises(ImageServerUnavailable):
            await make(pool)
        assert len(node.targets) == 4


async def test_an_answer_that_was_cut_is_requested_again_from_the_only_node(
    two: list[ImageNode],
) -> None:
    (node,) = two[:1]
    async with pool_of([node]) as pool:
        node.cut_answers = 1
        assert await make(pool) == (256, 256)
        assert len(node.targets) == 2


async def test_whole_images_leave_half_of_the_connections_to_tiles(two: list[ImageNode]) -> None:
    for node in two:
        node.delay_s = NEVER_S
    async with pool_of(two, connections=4) as pool:
        fulls = [
            asyncio.create_task(make(pool, f"full/{width},/0/default.jpg"))
            for width in range(3000, 3012)
        ]
        await until(lambda: sum(node.in_flight for node in two) == 4, "the lane is full")
        tiles = [asyncio.create_task(make(pool, path)) for path in TILES[:4]]
        await until(lambda: sum(node.in_flight for node in two) == 8, "tiles pass")
        for node in two:
            node.delay_s = 0
        assert await asyncio.gather(*tiles) == [(256, 256)] * 4
        assert len(await asyncio.gather(*fulls)) == 12


async def test_an_image_that_needs_more_memory_than_the_nodes_have_is_too_large(
    two: list[ImageNode],
) -> None:
    async with pool_of(two, decode_memory=10_000_000) as pool:
        with pytest.raises(TooLarge):
            await make(pool, "full/max/0/default.jpg")
        assert await make(pool) == (256, 256)


async def test_a_late_answer_is_hedged_by_another_node(two: list[ImageNode]) -> None:
    late, other = preferred(two)
    async with pool_of(two, hedge_after_p95=True, name="hedged") as pool:
        for path in TILES[:20]:
            await make(pool, path)
        assert not other.targets
        late.delay_s = NEVER_S
        assert await make(pool, TILES[21]) == (256, 256)
        assert len(other.targets) == 1
        assert figures("hedged")[late.address].in_flight == 1, "it goes on with the late request"
        late.delay_s = 0
        await until(lambda: figures("hedged")[late.address].in_flight == 0, "it has answered")


async def test_an_idle_connection_is_closed_before_the_server_closes_it(
    two: list[ImageNode],
) -> None:
    assert IDLE_S <= 20, "Cantaloupe closes it after 30 s"
    (node,) = two[:1]
    client = PoolClient("idle", ImageServerPool(addresses=[node.address]), idle_s=0.1)
    try:
        target = "/a/0,0,8,8/8,/0/default.jpg"
        await client.fetch(PoolRequest(asset(), "a", target, lambda *_: ""))
        await until(lambda: node.connections_closed == 1, "the client closes it")
    finally:
        await client.close()


async def test_a_source_that_is_gone_is_no_failure_of_the_node(two: list[ImageNode]) -> None:
    (node,) = two[:1]
    async with pool_of([node], watched=True, name="gone") as pool:
        await make(pool)
        node.status = 404
        for path in TILES[: FAILURES_TO_OPEN + 1]:
            with pytest.raises(ImageServerUnavailable):
                await make(pool, path)
        await until(lambda: bool(node.other), "the canary forgets an image that is gone")
        assert figures("gone")[node.address].state == "answers"


async def test_a_missing_file_is_found_before_any_node_is_asked(
    two: list[ImageNode], tmp_path: Path
) -> None:
    async with pool_of(two) as pool:
        with pytest.raises(FileNotFoundError):
            await pool.render(asset(), tmp_path / "gone.jp2", image(TILES[0]))
    assert not any(node.targets for node in two)
