"""P6: 1,000 requests at once over four serve processes for ten tiles of one image that nobody asked
for yet, its source in a real S3 server: how often is the source fetched, how often a tile rendered?
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack

import aiohttp
from yarl import URL

from loadtests.benches.context import Context
from loadtests.benches.objects import s3_settings, weed_with_counter
from loadtests.collection import copies, medium_jpeg
from loadtests.harness import Row, Spread
from loadtests.wrk import LoadError
from tests.support.counting_proxy import CountedRequests
from tests.support.serve_process import ServeProcess, run_server

CALLERS = 1000
TILES = [
    f"{x},{y},512,512/512,512/0/default.jpg"
    for y in (0, 512)
    for x in (0, 512, 1024, 1536, 2048)
]  # fmt: skip
PROCESSES = 4


def p6(context: Context) -> list[Row]:
    """Source GETs and renders of each round, beside what they have to be: 1 and 10."""
    folder = context.scratch / "p6"
    copies(medium_jpeg(), folder, context.rounds)
    gets, renders, seconds = [], [], []
    with ExitStack() as stack:
        tally = stack.enter_context(weed_with_counter(context.scratch / "weed"))
        server = stack.enter_context(
            run_server(
                folder,
                workers=PROCESSES,
                data=context.scratch / "p6-data",
                env=s3_settings(tally.address),
            )
        )
        server.wait_converted(expected=context.rounds)
        for identifier in server.identifiers().values():
            context.say(f"P6 {identifier}")
            one = _round(server, tally, identifier)
            gets.append(one["gets"])
            renders.append(one["renders"])
            seconds.append(one["seconds"])
    exactly = f"{CALLERS} callers, {PROCESSES} processes; all answers were 200 and right"
    took = f"{Spread.of(seconds).median:.2f} s for all {CALLERS} answers"
    return [
        _exact("source GETs at the store", gets, 1, exactly),
        _exact("renders", renders, len(TILES), took),
    ]


def _exact(what: str, seen: list[float], right: int, note: str) -> Row:
    ours, must = Spread.of(seen), Spread(right, right, right)
    ratio = Spread.of(each / right for each in seen)
    met = ours.low == ours.high == right
    return Row("P6", what, "", ours, must, "must be", ratio, f"exactly {right}", met, note)


def _round(server: ServeProcess, tally: CountedRequests, identifier: str) -> dict[str, float]:
    tally.clear()
    before = server.metric("renders_total")
    base = f"{server.public}/iiif/3/{identifier}"
    began = time.perf_counter()
    asyncio.run(_flood([f"{base}/{TILES[n % len(TILES)]}" for n in range(CALLERS)]))
    took = time.perf_counter() - began
    renders = _settled(server, before + len(TILES)) - before
    gets = len(tally.requests("GET", "/source."))
    return {"gets": gets, "renders": renders, "seconds": took}


def _settled(server: ServeProcess, expected: float) -> float:
    """The count of renders once it is there, or after two seconds whatever it is."""
    deadline = time.monotonic() + 2
    while (seen := server.metric("renders_total")) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


async def _flood(urls: list[str]) -> None:
    """All at once, each over its own connection. Raises LoadError unless all are 200 and alike."""
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    bodies: dict[str, Counter[bytes]] = {}

    async def ask(http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(URL(url, encoded=True)) as response:
            body = await response.read()
        if response.status != 200:
            raise LoadError(f"{response.status} for {url}: {body[:200]!r}")
        bodies.setdefault(url, Counter())[body] += 1

    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
        asyncio.TaskGroup() as group,
    ):
        for url in urls:
            group.create_task(ask(http, url))
    different = [url for url, seen in bodies.items() if len(seen) != 1]
    if different:
        raise LoadError(f"more than one picture for {different[:3]}")
