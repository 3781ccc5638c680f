"""Broken HTTP, slow clients, full houses and ends: what holds on the wire below any handler."""

import asyncio
import json
import time

import pytest

from orchestrator.web.port_state import PortLimits
from tests.integration.web.conftest import TILE, Client, House, Reply, a_house
from tests.support.descriptors import open_descriptors
from tests.support.patience import patience


def _is_our_error(answer: Reply, status: int) -> None:
    assert answer.status == status
    body = json.loads(answer.body)
    assert set(body) == {"error", "status", "requestId"}
    assert body["status"] == status
    assert body["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"] == "orchestrator"
    assert "date" in answer.headers
    assert len(answer.body) < 500


BROKEN = [
    pytest.param("GET /tile HTTP/1.1\r\n\r\n", 400, id="no Host"),
    pytest.param("GET /tile HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two Hosts"),
    pytest.param("GET /tile HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", 400, id="space before colon"),
    pytest.param(
        "POST /in/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        id="length and chunks",
    ),
    pytest.param(
        "POST /in/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
        id="two lengths",
    ),
    pytest.param("\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, id="TLS"),
    pytest.param("GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="NUL in the target"),
    pytest.param("GET /tile HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, id="fold"),
    pytest.param("A" * 10_000 + " / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="long method"),
    pytest.param(f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="long target"),
    pytest.param(
        f"GET /tile HTTP/1.1\r\nHost: a\r\nX: {'a' * 200_000}\r\n\r\n", 431, id="long header"
    ),
    pytest.param(
        "GET /tile HTTP/1.1\r\nHost: a\r\n" + "".join(f"X-{n}: a\r\n" for n in range(500)) + "\r\n",
        400,
        id="many headers",
    ),
]


@pytest.mark.parametrize(("data", "status"), BROKEN)
async def test_a_broken_message_is_answered_with_our_json_and_closed(
    house: House, data: str, status: int
) -> None:
    await house.warm()
    client = await house.connect()
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    client.send(data.encode("latin-1"))
    answer = await client.answer()
    _is_our_error(answer, status)
    assert b"aaaa" not in answer.body
    assert await client.closed()
    assert house.handled == ["tile"]


@pytest.mark.parametrize("method", ["HEADX", "HEAD\t", "HEAD=", "GET\t", "head "])
async def test_an_invalid_method_is_not_answered_from_memory(house: House, method: str) -> None:
    await house.warm()
    client = await house.connect()
    answer = await client.ask(f"{method}/tile HTTP/1.1\r\nHost: {house.host}\r\n\r\n".encode())
    assert (answer.status, answer.tier) == (400, "")


@pytest.mark.parametrize("host", ["a b/", "<x>", "a:99999", ""])
async def test_a_malformed_host_is_400_on_every_path(house: House, host: str) -> None:
    client = await house.connect()
    answer = await client.ask(f"GET /tile HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    _is_our_error(answer, 400)
    assert not house.handled
    client.close()


async def test_requests_before_a_broken_one_in_the_same_packet_are_answered(house: House) -> None:
    await house.warm()
    client = await house.connect()
    client.send(house.get("/tile") + house.get("/private") + b"BAD\r\n\r\n" + house.get("/tile"))
    assert [(await client.answer()).body for _ in range(2)] == [TILE, TILE]
    _is_our_error(await client.answer(), 400)
    assert await client.closed()


async def test_an_unsupported_expectation_is_417_with_our_json(house: House) -> None:
    client = await house.connect()
    _is_our_error(await client.ask(house.get("/tile", "Expect: the-unexpected")), 417)
    client.close()


async def test_the_host_of_an_absolute_target_counts(house: House) -> None:
    client = await house.connect()
    data = f"GET http://out.example/tile HTTP/1.1\r\nHost: {house.host}\r\n\r\n"
    answer = await client.ask(data.encode())
    assert (answer.status, answer.body) == (200, TILE)
    assert len(house.hot) == 0
    client.close()


async def test_http_1_0_is_answered_and_closed(house: House) -> None:
    await house.warm()
    client = await house.connect()
    answer = await client.ask(f"GET /tile HTTP/1.0\r\nHost: {house.host}\r\n\r\n".encode())
    assert (answer.status, answer.body) == (200, TILE)
    assert await client.closed()


async def test_http_1_0_without_a_host_is_answered(house: House) -> None:
    """Health probes of load balancers send such requests; the address of the connection counts."""
    client = await house.connect()
    answer = await client.ask(b"GET /tile HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.body) == (200, TILE)


async def test_errors_of_handlers_have_our_json_and_show_no_internals(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    client = await house.connect()
    missing = await client.ask(house.get("/missing"))
    _is_our_error(missing, 404)
    assert missing.headers["cache-control"] == "max-age=10"
    broken = await client.ask(house.get("/broken"))
    _is_our_error(broken, 500)
    assert broken.headers["cache-control"] == "no-store"
    assert b"secret" not in broken.body
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "unexpected error"
    ]
    _is_our_error(await client.ask(house.get("/no/such/path")), 404)
    client.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405_with_allow(house: House, method: str) -> None:
    client = await house.connect()
    answer = await client.ask(house.get("/tile", "Content-Length: 0", method=method))
    _is_our_error(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    client.close()


async def test_a_preflight_is_answered_on_every_path(house: House) -> None:
    client = await house.connect()
    for target, methods in (("/tile", "GET"), ("/in/upload", "POST"), ("/no/such", "GET")):
        answer = await client.ask(
            house.get(target, "Origin: https://v.example", method="OPTIONS"), head=True
        )
        assert answer.status == 204
        assert methods in answer.headers["access-control-allow-methods"]
        allowed = set(answer.headers["access-control-allow-headers"].split(", "))
        assert allowed >= {"accept", "authorization", "cache-control", "pragma", "x-requested-with"}
        assert allowed >= {"if-modified-since", "if-none-match", "range"}
        assert answer.headers["access-control-max-age"].isdigit()
        assert answer.headers["access-control-allow-origin"] == "*"
    assert not house.handled
    client.close()


async def test_a_header_that_never_ends_is_closed_with_408() -> None:
    async with a_house(limits=PortLimits(header_timeout_s=0.5)) as house:
        await house.warm()
        late, fast = await house.connect(), await house.connect()
        late.send(b"GET / HTTP/1.1\r\nX-Slow: ")
        started = time.monotonic()
        while time.monotonic() - started < 2.6:
            assert (await fast.ask(house.get("/tile"))).status == 200
            await asyncio.sleep(0.1)
        _is_our_error_without_date(await late.answer())
        assert await late.closed()
        fast.close()


def _is_our_error_without_date(answer: Reply) -> None:
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_an_idle_connection_is_closed_and_one_in_use_is_not() -> None:
    keepalive_s = 2 * patience()
    async with a_house(keepalive_s=keepalive_s) as house:
        await house.warm()
        idle, used = await house.connect(), await house.connect()
        await idle.ask(house.get("/tile"))
        started = time.monotonic()
        while time.monotonic() - started < 2.5 * keepalive_s:
            assert (await used.ask(house.get("/tile"))).tier == "memory"
            await asyncio.sleep(keepalive_s / 10)
        assert await idle.closed()
        used.close()


async def test_three_hundred_unfinished_headers_delay_no_other_client(house: House) -> None:
    await house.warm()
    idle = [await house.connect() for _ in range(300)]
    for client in idle:
        client.send(b"GET / HTTP/1.1\r\nX-Slow: ")
    client = await house.connect()
    started = time.monotonic()
    for _ in range(3):
        assert (await client.ask(house.get("/tile"))).body == TILE
    assert time.monotonic() - started < 1 * patience()
    for each in [*idle, client]:
        each.close()


async def test_connections_over_the_limit_are_refused_with_retry_after() -> None:
    async with a_house(limits=PortLimits(max_connections=3)) as house:
        kept = [await house.connect() for _ in range(3)]
        for client in kept:
            await client.ask(house.get("/tile"))
        refused = await house.connect()
        answer = await refused.answer()
        assert answer.status == 503
        assert answer.headers["retry-after"].isdigit()
        assert await refused.closed()
        assert (await kept[0].ask(house.get("/tile"))).status == 200
        kept.pop().close()
        await asyncio.sleep(0.1)
        again = await house.connect()
        assert (await again.ask(house.get("/tile"))).status == 200
        for client in [*kept, again]:
            client.close()


async def test_requests_over_the_limit_are_refused_but_hot_ones_are_answered() -> None:
    async with a_house(limits=PortLimits(max_requests=2)) as house:
        await house.warm()
        busy = [await house.connect() for _ in range(2)]
        for client in busy:
            client.send(house.get("/slow"))
        while house.handled.count("slow") < 2:
            await asyncio.sleep(0.005)
        client = await house.connect()
        refused = await client.ask(house.get("/private"))
        _is_our_error(refused, 503)
        assert refused.headers["retry-after"].isdigit()
        assert (await client.ask(house.get("/tile"))).tier == "memory"
        house.gate.set()
        assert [(await one.answer()).status for one in busy] == [200, 200]
        assert house.port_state.in_progress == 0
        for each in [*busy, client]:
            each.close()


async def test_a_shutdown_cuts_off_no_response_and_accepts_no_connection() -> None:
    async with a_house() as house:
        await house.warm()
        busy, idle = await house.connect(), await house.connect()
        await idle.ask(house.get("/tile"))
        busy.send(house.get("/slow"))
        while "slow" not in house.handled:
            await asyncio.sleep(0.005)
        ending = asyncio.create_task(house.runner.cleanup())
        await asyncio.sleep(0.05)
        last = await idle.ask(house.get("/tile"))  # asked while the port drains
        assert (last.status, last.headers["connection"]) == (200, "close")
        with pytest.raises(OSError):
            await house.connect()
        house.gate.set()
        answer = await busy.answer()
        assert (answer.status, answer.body) == (200, TILE)
        assert answer.headers["connection"] == "close"
        assert await busy.closed()
        await asyncio.wait_for(ending, 5 * patience())


async def test_clients_that_disconnect_at_once_leave_no_task_and_no_descriptor(
    house: House,
) -> None:
    await house.warm()

    def held() -> tuple[int, int, int]:
        return (
            open_descriptors(),
            len(asyncio.all_tasks()),
            len(list(house.port_state.connections())),
        )

    async def settled(limits: tuple[int, int, int]) -> bool:
        end = time.monotonic() + 10 * patience()
        while any(now > limit for now, limit in zip(held(), limits, strict=True)):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    await settled((10_000, 10_000, 0))
    before = held()
    for number in range(150):
        client: Client = await house.connect()
        client.send(house.get(("/tile", "/private", "/missing")[number % 3])[: 20 + number])
        client.close()
    assert await settled(before), (held(), before)
