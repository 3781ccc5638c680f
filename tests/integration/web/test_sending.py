"""Large hot bodies go to the socket without a copy: whole, in order, and for whatever reader."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from orchestrator.web.http import HotEntry
from tests.integration.web.conftest import INFO, LARGE, TILE, Client, House
from tests.support.descriptors import open_descriptors


def entry_of(house: House, target: str) -> HotEntry:
    entry = house.hot.get((f"http://{house.host}", "", target.encode()))
    assert entry is not None
    return entry


async def slow_client(house: House) -> Client:
    """A client whose socket takes little at a time, so that the server's is soon full."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", house.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    client = Client(house, reader, writer)
    house.clients.append(client)
    return client


async def test_a_large_body_is_a_file_and_not_in_the_heap_and_a_small_one_is_bytes(
    house: House,
) -> None:
    for target in ("/tile", "/large"):
        await house.warm(target)
    for target, body in (("/tile", TILE), ("/large", LARGE)):
        entry = entry_of(house, target)
        assert entry.file is not None
        assert (entry.body, entry.delivery.body, entry.length) == (b"", b"", len(body))
        assert entry.size > len(body)
    await house.warm("/info")
    assert house.hot.files.count == 2
    client = await house.connect()
    assert (await client.ask(house.get("/info"))).body == INFO


async def test_a_reader_that_takes_little_at_a_time_gets_it_whole_and_what_follows_in_order(
    house: House,
) -> None:
    for target in ("/tile", "/large"):
        await house.warm(target)
    client = await slow_client(house)
    targets = ["/large", "/tile", "/cold", "/large", "/info", "/tile"] * 3
    for target in targets:
        client.send(house.get(target))
        await asyncio.sleep(0.005)
    bodies = {"/large": LARGE, "/info": INFO}
    for target in targets:
        assert (await client.answer()).body == bodies.get(target, TILE)


async def test_many_requests_that_fill_the_socket_are_answered_to_the_last_byte(
    house: House,
) -> None:
    await house.warm("/tile")
    client = await slow_client(house)
    for _ in range(400):
        client.send(house.get("/tile"))
        await asyncio.sleep(0)
    for _ in range(400):
        answer = await client.answer()
        assert (answer.tier, answer.body) == ("memory", TILE)


async def test_what_is_dropped_while_it_is_sent_arrives_as_it_was(house: House) -> None:
    await house.warm("/large")
    client = await slow_client(house)
    client.send(house.get("/large"))
    await asyncio.sleep(0.05)  # the socket is full by now: some is in the kernel, the rest waits
    house.hot.drop_asset("1/1/large")
    assert house.hot.files.count == 0
    others = [house.hot.files.keep(bytes([number]) * len(LARGE)) for number in range(20)]
    assert (await client.answer()).body == LARGE
    assert len(others) == 20


@pytest.mark.parametrize("fault", [errno.EINVAL, errno.EAGAIN, errno.EPIPE])
async def test_a_socket_that_refuses_the_file_is_given_the_bytes(
    house: House, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    await house.warm("/tile")

    def refuse(*_: object) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr("orchestrator.web.protocol.sendfile", refuse)
    client = await house.connect()
    for _ in range(3):
        answer = await client.ask(house.get("/tile"))
        assert (answer.tier, answer.body) == ("memory", TILE)


async def test_readers_that_leave_midway_leave_no_descriptor_and_harm_nobody(house: House) -> None:
    await house.warm("/large")
    steady = await house.connect()
    assert (await steady.ask(house.get("/large"))).body == LARGE
    before = open_descriptors()
    for _ in range(30):
        client = await slow_client(house)
        client.send(house.get("/large"))
        await asyncio.sleep(0.002)
        client.writer.transport.abort()
    async with asyncio.timeout(10):
        while len(list(house.front.connections())) > 1:
            await asyncio.sleep(0.01)
        while open_descriptors() > before:
            await asyncio.sleep(0.01)
    assert (await steady.ask(house.get("/large"))).body == LARGE


async def test_another_request_id_and_an_unknown_tag_get_the_same_body(house: House) -> None:
    await house.warm("/tile")
    client = await house.connect()
    for line in ("X-Request-Id: mine", 'If-None-Match: "zzz"'):
        answer = await client.ask(house.get("/tile", line))
        assert (answer.tier, answer.body) == ("memory", TILE)
    assert house.handled == ["tile"]
