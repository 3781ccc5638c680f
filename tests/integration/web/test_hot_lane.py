"""Hot answers: a client cannot tell them from others, and they never change the order of
answers.
"""

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest

from tests.integration.web.conftest import INFO, LARGE, TILE, House, a_house


async def test_the_second_request_for_a_tile_is_answered_without_the_handler(house: House) -> None:
    client = await house.connect()
    cold = await client.ask(house.get("/tile"))
    hot = await client.ask(house.get("/tile"))
    assert (cold.status, cold.tier, cold.body) == (200, "disk", TILE)
    assert (hot.status, hot.tier, hot.body) == (200, "memory", TILE)
    assert house.handled == ["tile"]
    differing = {n for n in cold.headers | hot.headers if cold.headers.get(n) != hot.headers.get(n)}
    assert differing <= {"x-served-from", "server-timing", "x-request-id", "date"}
    client.close()


async def test_every_response_has_a_different_request_id(house: House) -> None:
    client = await house.connect()
    ids = {(await client.ask(house.get("/tile"))).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", one) for one in ids)
    given = await client.ask(house.get("/tile", "X-Request-Id: mine-1"))
    assert (given.headers["x-request-id"], given.tier) == ("mine-1", "memory")
    client.close()


async def test_head_from_memory_has_the_headers_of_get_and_no_body(house: House) -> None:
    await house.warm()
    client = await house.connect()
    only = await client.ask(house.get("/tile", method="HEAD"), head=True)
    full = await client.ask(house.get("/tile"))
    assert (only.status, only.tier) == (200, "memory")
    for name in ("content-type", "content-length", "etag", "cache-control", "link"):
        assert only.headers[name] == full.headers[name]
    assert house.handled == ["tile"]
    client.close()


@pytest.mark.parametrize("condition", ["{tag}", "W/{tag}", '"zzz", {tag}', "*"])
async def test_a_matching_etag_gives_304_from_memory(house: House, condition: str) -> None:
    await house.warm()
    client = await house.connect()
    full = await client.ask(house.get("/tile"))
    tag = condition.format(tag=full.headers["etag"])
    answer = await client.ask(house.get("/tile", f"If-None-Match: {tag}"))
    assert (answer.status, answer.tier, answer.body) == (304, "memory", b"")
    for name in ("etag", "cache-control", "access-control-allow-origin"):
        assert answer.headers[name] == full.headers[name]
    assert "date" in answer.headers
    assert "content-length" not in answer.headers
    other = await client.ask(house.get("/tile", 'If-None-Match: "zzz"'))
    assert (other.status, other.body) == (200, TILE)
    assert house.handled == ["tile"]
    client.close()


@pytest.mark.parametrize(
    ("lines", "status", "body"),
    [
        pytest.param(["Range: bytes=0-9"], 206, TILE[:10], id="range"),
        pytest.param(["Range: bytes=99999999-"], 416, None, id="unsatisfiable"),
        pytest.param(["Range: cows=1-2"], 200, TILE, id="unknown unit"),
        pytest.param(["Range: bytes=0-1,4-5"], 200, TILE, id="several ranges"),
        pytest.param(['If-Match: "zzz"'], 412, None, id="precondition"),
        pytest.param(["If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT"], 304, b"", id="date"),
        pytest.param(["Cookie: ticket=x"], 200, TILE, id="a ticket goes to the handler"),
        pytest.param(["Authorization: Bearer x"], 200, TILE, id="so does a bearer"),
    ],
)
async def test_requests_that_the_hot_lane_passes_on_are_answered_on_the_same_connection(
    house: House, lines: list[str], status: int, body: bytes | None
) -> None:
    await house.warm()
    client = await house.connect()
    for _ in range(2):
        assert (await client.ask(house.get("/tile"))).tier == "memory"
        answer = await client.ask(house.get("/tile", *lines))
        assert answer.status == status
        assert body is None or answer.body == body
        assert answer.headers["access-control-allow-origin"] == "*"
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    assert house.handled.count("tile") == (3 if "icket" in lines[0] or "Bearer" in lines[0] else 1)
    client.close()


async def test_an_info_document_is_kept_for_each_kind_of_accept(house: House) -> None:
    client = await house.connect()
    linked, zipped = "Accept: application/ld+json", "Accept-Encoding: gzip"
    for lines in ([], [linked], [zipped], [linked, zipped]):
        cold = await client.ask(house.get("/info", *lines))
        hot = await client.ask(house.get("/info", *lines))
        assert (cold.tier, hot.tier) == ("disk", "memory")
        assert hot.body == cold.body
        assert hot.headers["vary"] == "Accept, Accept-Encoding"
        assert (gzip.decompress(hot.body) if zipped in lines else hot.body) == INFO
        known = await client.ask(
            house.get("/info", *lines, f"If-None-Match: {hot.headers['etag']}")
        )
        assert (known.status, known.tier) == (304, "memory")
    assert len(house.handled) == 4
    client.close()


async def test_another_host_is_another_entry(house: House) -> None:
    await house.warm()
    client = await house.connect()
    answer = await client.ask(b"GET /tile HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert (answer.status, answer.tier) == (200, "disk")
    assert "other.example" in answer.headers["link"]
    client.close()


async def test_a_query_is_answered_and_not_kept(house: House) -> None:
    await house.warm()
    client = await house.connect()
    for number in range(3):
        assert (await client.ask(house.get(f"/tile?{number}"))).body == TILE
    assert len(house.hot) == 1
    client.close()


async def test_a_response_that_is_not_public_is_never_kept(house: House) -> None:
    client = await house.connect()
    for _ in range(2):
        assert (await client.ask(house.get("/private"))).tier == "disk"
    assert len(house.hot) == 0
    client.close()


async def test_a_changed_asset_is_answered_by_the_handler_at_once(house: House) -> None:
    client = await house.connect()
    await client.ask(house.get("/tile"))
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    house.hot.drop_asset("1/1/tile")
    assert (await client.ask(house.get("/tile"))).tier == "disk"
    client.close()


async def test_pipelined_requests_hot_and_cold_are_answered_in_order(house: House) -> None:
    await house.warm()
    client = await house.connect()
    asks = [
        (house.get("/tile"), 200, TILE, False),
        (house.get("/tile", method="HEAD"), 200, b"", True),
        (house.get("/private"), 200, TILE, False),
        (house.get("/missing"), 404, None, False),
        (house.get("/tile", "If-None-Match: *"), 304, b"", False),
        (house.get("/tile", "Range: bytes=5-6"), 206, TILE[5:7], False),
        (house.get("/tile", method="DELETE"), 405, None, False),
        (house.get("/tile"), 200, TILE, False),
    ]
    for _ in range(3):
        client.send(b"".join(data for data, *_ in asks))
        for _, status, body, head in asks:
            answer = await client.answer(head=head)
            assert answer.status == status
            assert body is None or answer.body == body
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    client.close()


async def test_a_hot_request_behind_one_in_progress_is_answered_in_order(house: House) -> None:
    await house.warm()
    client = await house.connect()
    client.send(house.get("/slow"))
    while "slow" not in house.handled:
        await asyncio.sleep(0.005)
    client.send(house.get("/tile"))
    await asyncio.sleep(0.05)
    house.gate.set()
    first, second = await client.answer(), await client.answer()
    assert (first.headers["x-asset-id"], second.headers["x-asset-id"]) == ("1/1/slow", "1/1/tile")
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    client.close()


@pytest.mark.parametrize("size", [1, 7, 40])
async def test_a_request_in_small_packets_is_one_request(house: House, size: int) -> None:
    await house.warm()
    client = await house.connect()
    data = house.get("/tile") * 2
    for at in range(0, len(data), size):
        client.send(data[at : at + size])
        await asyncio.sleep(0.001)
    assert [(await client.answer()).body for _ in range(2)] == [TILE, TILE]
    assert (await client.ask(house.get("/tile"))).body == TILE
    client.close()


@pytest.mark.parametrize("cut", range(1, 60, 3))
async def test_a_request_cut_at_any_byte_and_the_next_one_are_answered_in_order(
    house: House, cut: int
) -> None:
    await house.warm()
    client = await house.connect()
    private, tile = house.get("/private"), house.get("/tile")
    client.send(private[:cut])
    await asyncio.sleep(0.01)
    client.send(private[cut:] + tile[:cut])
    await asyncio.sleep(0.01)
    client.send(tile[cut:])
    first, second = await client.answer(), await client.answer()
    assert first.headers["x-asset-id"] == "1/1/private"
    assert second.headers["x-asset-id"] == "1/1/tile"
    client.close()


async def test_a_body_that_looks_like_a_request_is_not_answered(house: House) -> None:
    await house.warm()
    client = await house.connect()
    hidden = house.get("/missing")
    whole = house.get("/tile", f"Content-Length: {len(hidden)}") + hidden
    for cut in (len(whole), len(whole) - len(hidden), len(whole) - 5):
        client.send(whole[:cut])
        await asyncio.sleep(0.02)
        client.send(whole[cut:])
        assert (await client.answer()).status == 200
        assert (await client.ask(house.get("/tile"))).body == TILE
    client.send(house.get("/tile", "Connection: close"))
    assert (await client.answer()).status == 200
    assert await client.closed()
    assert "missing" not in house.handled


async def test_a_body_that_is_a_hot_request_arriving_alone_is_not_answered(house: House) -> None:
    await house.warm()
    client = await house.connect()
    hidden = house.get("/tile")
    client.send(house.get("/private", f"Content-Length: {len(hidden)}"))
    assert (await client.answer()).headers["x-asset-id"] == "1/1/private"
    client.send(hidden)  # the promised body, in a read of its own
    await asyncio.sleep(0.05)
    client.send(house.get("/private"))
    assert (await client.answer()).headers["x-asset-id"] == "1/1/private"
    client.close()


async def test_the_hot_lane_answers_again_after_a_posted_body(house: House) -> None:
    await house.warm()
    client = await house.connect()
    answer = await client.ask(
        house.get("/in/upload", "Content-Length: 5", method="POST") + b"12345"
    )
    assert json.loads(answer.body) == {"bytes": 5}
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    client.close()


async def test_more_pipelined_requests_than_the_queue_holds_are_all_answered(house: House) -> None:
    await house.warm()
    client = await house.connect()
    client.send(house.get("/tile") * 200)
    for _ in range(200):
        assert (await client.answer()).body == TILE
    assert (await client.ask(house.get("/tile"))).tier == "memory"
    client.close()


async def test_a_client_that_stops_reading_makes_the_server_buffer_a_bounded_amount(
    house: House,
) -> None:
    await house.warm("/large")
    client = await house.connect()
    for _ in range(200):
        client.send(house.get("/large"))
        await asyncio.sleep(0.002)
    (protocol,) = (p for p in house.port_state.connections() if p._paused)  # type: ignore[attr-defined]
    assert protocol.transport.get_write_buffer_size() < 3 * len(LARGE)  # type: ignore[attr-defined]
    for _ in range(200):
        assert (await client.answer()).body == LARGE
    assert (await client.ask(house.get("/large"))).tier == "memory"
    client.close()


async def test_the_access_log_has_a_line_for_hot_and_handled_responses(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with a_house(log=path) as house:
        client = await house.connect()
        for lines in ([], [], ["If-None-Match: *"], ["X-Request-Id: mine"]):
            await client.ask(house.get("/tile", *lines))
        await client.ask(house.get("/tile", method="HEAD"), head=True)
        await client.ask(house.get("/missing"))
        client.send(b"\x16\x03\r\n\r\n")
        assert (await client.answer()).status == 400
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    seen = [(r["tier"], r["status"], r["bytes"], r["method"], r["requestClass"]) for r in rows]
    assert seen == [
        ("disk", 200, len(TILE), "GET", "tile"),
        ("memory", 200, len(TILE), "GET", "tile"),
        ("memory", 304, 0, "GET", "tile"),
        ("memory", 200, len(TILE), "GET", "tile"),
        ("memory", 200, 0, "HEAD", "tile"),
        ("", 404, rows[5]["bytes"], "GET", "other"),
        ("", 400, rows[6]["bytes"], "", "broken"),
    ]
    assert len({tuple(row) for row in rows}) == 1
    assert [row["requestId"] for row in rows][3] == "mine"
    assert all(row["target"] == "/tile" and row["version"] == 1 for row in rows[:5])
