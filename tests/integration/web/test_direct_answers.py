"""The hot lane answers from files of the disk cache: the right bytes, or the ordinary way."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions, Product
from orchestrator.cache.disk.file_names import place
from tests.integration.web.conftest import TILE, Client, House, Reply, a_house
from tests.support.descriptors import open_descriptors

OTHER = TILE[::-1]
PRODUCT = Product("1/1/tile", 1, "open/tile", "jpg")


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskCache]:
    cache = await DiskCache.open(
        tmp_path / "derivatives", DiskOptions(quota=50_000_000, use_flush_s=3600)
    )
    assert await cache.put(PRODUCT, TILE)
    yield cache
    await cache.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def open_house(stack: AsyncExitStack, disk: DiskCache, memory: int = 0) -> House:
    """A house that has answered /tile once."""
    house = await stack.enter_async_context(a_house(memory=memory, disk=disk))
    house.products["tile"] = PRODUCT
    await house.warm()
    assert house.handled == ["tile"]
    return house


async def ask(house: House, *lines: str, client: Client | None = None) -> Reply:
    return await (client or await house.connect()).ask(house.get("/tile", *lines))


def file_of(tmp_path: Path) -> Path:
    return tmp_path / "derivatives" / place(PRODUCT).path


async def test_without_memory_a_disk_hit_does_not_reach_the_application(stack, disk) -> None:
    house = await open_house(stack, disk)
    client = await house.connect()
    hits = (await disk.stats()).hits
    for count in range(1, 6):
        answer = await ask(house, client=client)
        assert (answer.status, answer.tier, answer.body) == (200, "disk", TILE)
        assert answer.headers["server-timing"] == "disk;dur=0.0"
        assert (await disk.stats()).hits == hits + count, "each answer counts as a use"
    assert house.handled == ["tile"]


async def test_a_request_that_arrives_with_its_connection_is_answered(stack, disk) -> None:
    house = await open_house(stack, disk)
    for _ in range(10):
        connection = socket.create_connection(("127.0.0.1", house.port))
        connection.sendall(house.get("/tile"))  # before the server has accepted the connection
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection)
        client = Client(house, reader, writer)
        house.clients.append(client)
        assert (await client.answer()).body == TILE
        assert (await ask(house, client=client)).body == TILE
    assert house.handled == ["tile"]


async def test_its_head_says_the_same_as_that_of_the_application(stack, disk) -> None:
    house = await open_house(stack, disk)
    direct = await ask(house)
    ordinary = await ask(house, "If-Modified-Since: Thu, 01 Jan 2015 00:00:00 GMT")
    assert house.handled == ["tile", "tile"]
    different = {"x-request-id", "server-timing", "date"}
    assert {k: v for k, v in direct.headers.items() if k not in different} == {
        k: v for k, v in ordinary.headers.items() if k not in different
    }


async def test_the_head_of_a_body_that_memory_let_go_stays(stack, disk) -> None:
    house = await open_house(stack, disk, memory=24_000)
    assert (await ask(house)).tier == "memory"
    entry = house.hot.get((f"http://{house.host}", "", b"/tile"))
    assert entry is not None
    house.hot.put("another", entry, house.hot.token())
    assert (await ask(house)).tier == "disk"
    assert house.handled == ["tile"]
    tiers = [(await ask(house)).tier for _ in range(4)]
    assert tiers == ["disk", "disk", "memory", "memory"], "a used body returns into memory"
    assert house.handled == ["tile"]


async def test_conditions_are_evaluated_and_unchanged_answers_have_no_body(stack, disk) -> None:
    house = await open_house(stack, disk)
    etag = (await ask(house)).headers["etag"]
    answer = await ask(house, f"If-None-Match: {etag}")
    assert (answer.status, answer.body) == (304, b"")
    changed = await ask(house, 'If-None-Match: "x"', "X-Request-Id: mine")
    assert (changed.status, changed.body, changed.headers["x-request-id"]) == (200, TILE, "mine")
    assert house.handled == ["tile"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: path.write_bytes(TILE[:-1]), id="cut short"),
        pytest.param(lambda path: replace(path, OTHER), id="replaced by one of the same size"),
    ],
)
@pytest.mark.parametrize("seen", [True, False], ids=["after it was sent", "before it was sent"])
async def test_another_file_is_not_sent(stack, disk, tmp_path, damage, seen) -> None:
    house = await open_house(stack, disk)
    if seen:
        assert (await ask(house)).body == TILE
    damage(file_of(tmp_path))
    answer = await ask(house)
    assert (answer.status, answer.body) == (200, TILE)
    assert house.handled == ["tile", "tile"]


def replace(path: Path, body: bytes) -> None:
    """Replace a file, its time included."""
    status = path.stat()
    path.with_name("new").write_bytes(body)
    os.utime(path.with_name("new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.with_name("new").replace(path)


async def test_a_changed_asset_drops_the_head(stack, disk) -> None:
    house = await open_house(stack, disk)
    house.hot.drop_asset("1/1/tile")
    assert (await ask(house)).body == TILE
    assert house.handled == ["tile", "tile"]


async def test_an_answer_made_before_the_drop_leaves_no_head(stack, disk) -> None:
    house = await open_house(stack, disk)
    token = house.hot.token()
    assert house.hot.heads is not None
    key = (f"http://{house.host}", "", b"/tile")
    head = house.hot.heads.get(key)
    assert head is not None
    house.hot.drop_asset("1/1/tile")
    house.hot.put_head(key, head, token)
    assert len(house.hot.heads) == 0


async def test_a_draining_port_does_not_answer_from_files(stack, disk) -> None:
    house = await open_house(stack, disk)
    client = await house.connect()
    await ask(house, client=client)
    house.port_state.drain()
    answer = await ask(house, client=client)
    assert answer.headers["connection"] == "close"
    assert house.handled == ["tile", "tile"]


async def test_no_descriptor_stays_open(stack, disk) -> None:
    house = await open_house(stack, disk)
    client = await house.connect()
    await ask(house, client=client)
    before = open_descriptors()
    for _ in range(50):
        await ask(house, client=client)
    assert open_descriptors() == before
