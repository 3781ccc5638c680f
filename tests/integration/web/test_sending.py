"""Large hot bodies go to the socket without a copy: whole, in order, and for whatever reader."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from orchestrator.web.hot_entries import HotEntry
from tests.integration.web.conftest import INFO, LARGE, TILE, Client, House, a_house
from tests.support.descriptors import open_descriptors
from tests.support.patience import patience


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


async def fill(house: House, client: Client, target: str) -> int:
    """Ask until the client's socket is full and answers wait on our side; how often."""
    for count in range(1, 1000):
        client.send(house.get(target))
        await asyncio.sleep(0.005)
        if sum(each.unsent_bytes() for each in house.port_state.connections()):
            return count
    raise AssertionError("the socket takes everything")


async def test_a_large_body_is_a_memory_file_and_a_small_one_is_bytes(
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


async def test_a_slow_client_gets_the_whole_body_and_the_next_responses_in_order(
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
    count = await fill(house, client, "/tile")
    for _ in range(40):
        client.send(house.get("/tile"))
        await asyncio.sleep(0)
    for _ in range(count + 40):
        answer = await client.answer()
        assert (answer.tier, answer.body) == ("memory", TILE)


async def test_an_entry_dropped_while_it_is_sent_arrives_unchanged(house: House) -> None:
    await house.warm("/large")
    client = await slow_client(house)
    count = await fill(house, client, "/large")
    house.hot.drop_asset("1/1/large")
    assert house.hot.files.count == 0
    others = [house.hot.files.create(bytes([number]) * len(LARGE)) for number in range(20)]
    for _ in range(count):
        assert (await client.answer()).body == LARGE
    assert len(others) == 20


@pytest.mark.parametrize("fault", [errno.EINVAL, errno.EAGAIN, errno.EPIPE])
async def test_a_socket_that_refuses_sendfile_gets_the_bytes(
    house: House, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    await house.warm("/tile")

    def refuse(*_: object) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr("orchestrator.web.socket_sender.sendfile", refuse)
    client = await house.connect()
    for _ in range(3):
        answer = await client.ask(house.get("/tile"))
        assert (answer.tier, answer.body) == ("memory", TILE)


async def test_clients_that_disconnect_during_a_response_leave_no_descriptor_open(
    house: House,
) -> None:
    await house.warm("/large")
    steady = await house.connect()
    assert (await steady.ask(house.get("/large"))).body == LARGE
    before = open_descriptors()
    for _ in range(8):
        client = await slow_client(house)
        await fill(house, client, "/large")
        client.writer.transport.abort()
    async with asyncio.timeout(10 * patience()):
        while len(list(house.port_state.connections())) > 1:
            await asyncio.sleep(0.01)
        while open_descriptors() > before:
            await asyncio.sleep(0.01)
    assert (await steady.ask(house.get("/large"))).body == LARGE


async def test_a_client_request_id_and_an_unknown_etag_get_the_same_body(house: House) -> None:
    await house.warm("/tile")
    client = await house.connect()
    for line in ("X-Request-Id: mine", 'If-None-Match: "zzz"'):
        answer = await client.ask(house.get("/tile", line))
        assert (answer.tier, answer.body) == ("memory", TILE)
    assert house.handled == ["tile"]


async def test_a_shutdown_waits_until_clients_have_read_their_responses() -> None:
    async with a_house() as house:
        await house.warm("/large")
        client = await slow_client(house)
        await fill(house, client, "/large")
        answered = house.port_state.request_count - 1  # the first was the warming one's
        ending = asyncio.create_task(house.runner.cleanup())
        done, _ = await asyncio.wait({ending}, timeout=0.7)
        assert not done
        for _ in range(answered):
            assert (await client.answer()).body == LARGE
        await asyncio.wait_for(ending, 5 * patience())


async def test_a_shutdown_waits_for_a_slow_client_at_most_the_drain_time() -> None:
    async with a_house(drain_s=3) as house:
        await house.warm("/large")
        client = await slow_client(house)
        await fill(house, client, "/large")
        (connection,) = house.port_state.connections()
        await asyncio.wait_for(house.runner.cleanup(), 10 * patience())
        assert connection.unsent_bytes() == 0


async def test_a_stalled_connection_is_ended_even_if_few_bytes_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "orchestrator.web.connection_deadlines.STALLED_S", 2.5
    )  # over keep-alive's 2 s
    async with a_house(keepalive_s=2) as house:
        await house.warm("/tile")
        client = await slow_client(house)
        await fill(house, client, "/tile")
        async with asyncio.timeout(15 * patience()):
            while house.port_state.connections():
                await asyncio.sleep(0.1)
