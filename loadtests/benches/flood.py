"""P6: 1,000 concurrent requests over four serve processes for ten tiles of one image that is in no
cache, with its source in a real S3 server. Counts the fetches of the source and the renders.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack

import aiohttp
from yarl import URL

from loadtests.benches.context import Context
from loadtests.benches.s3_server import counted_s3_server, s3_settings
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
    """Source GETs and renders of each round, and the required counts: 1 and 10."""
    folder = context.scratch / "p6"
    copies(medium_jpeg(), folder, context.rounds)
    gets, renders, seconds = [], [], []
    with ExitStack() as stack:
        counted = stack.enter_context(counted_s3_server(context.scratch / "weed"))
        server = stack.enter_context(
            run_server(
                folder,
                workers=PROCESSES,
                data=context.scratch / "p6-data",
                env=s3_settings(counted.address),
            )
        )
        server.wait_converted(expected=context.rounds)
        for identifier in server.identifiers().values():
            context.print_progress(f"P6 {identifier}")
            figures = _run_round(server, counted, identifier)
            gets.append(figures["gets"])
            renders.append(figures["renders"])
            seconds.append(figures["seconds"])
    conditions = f"{CALLERS} callers, {PROCESSES} processes; all answers were 200 and correct"
    took = f"{Spread.of(seconds).median:.2f} s for all {CALLERS} answers"
    return [
        _row("source GETs at the store", gets, 1, conditions),
        _row("renders", renders, len(TILES), took),
    ]


def _row(what: str, counts: list[float], required: int, note: str) -> Row:
    ours, reference = Spread.of(counts), Spread(required, required, required)
    ratio = Spread.of(count / required for count in counts)
    met = ours.low == ours.high == required
    return Row("P6", what, "", ours, reference, "required", ratio, f"exactly {required}", met, note)


def _run_round(server: ServeProcess, counted: CountedRequests, identifier: str) -> dict[str, float]:
    counted.clear()
    before = server.metric("renders_total")
    base = f"{server.public}/iiif/3/{identifier}"
    began = time.perf_counter()
    asyncio.run(_flood([f"{base}/{TILES[n % len(TILES)]}" for n in range(CALLERS)]))
    took = time.perf_counter() - began
    renders = _wait_for_renders(server, before + len(TILES)) - before
    gets = len(counted.requests("GET", "/source."))
    return {"gets": gets, "renders": renders, "seconds": took}


def _wait_for_renders(server: ServeProcess, expected: float) -> float:
    """The count of renders, as soon as it is `expected`, at the latest after two seconds."""
    deadline = time.monotonic() + 2
    while (renders := server.metric("renders_total")) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return renders


async def _flood(urls: list[str]) -> None:
    """Send all requests at once, each over its own connection. Raises LoadError unless all answers
    are 200 and those of one URL are equal.
    """
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0)
    bodies: dict[str, Counter[bytes]] = {}

    async def fetch(http: aiohttp.ClientSession, url: str) -> None:
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
            group.create_task(fetch(http, url))
    different = [url for url, counts in bodies.items() if len(counts) != 1]
    if different:
        raise LoadError(f"different bodies for {different[:3]}")
