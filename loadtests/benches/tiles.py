"""P5: distinct tiles of a JPEG2000 on local disk that no cache can answer, four at a time. The
built-in image server is compared with iipsrv (two processes behind nginx) on the same files.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
from yarl import URL

from loadtests.benches.context import Context
from loadtests.collection import (
    LARGE,
    copies,
    large_jpeg2000,
    large_pyramid,
    large_tiled_jpeg2000,
)
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import run_server

CONCURRENCY = 4
EDGE = 512
TILES = 48
"""Distinct tiles in one round, four of five at full scale."""


def p5(context: Context) -> list[Row]:
    """One row for each kind of source: requests per second on a copy that was never requested."""
    kinds = {
        "JPEG2000, untiled": large_jpeg2000(),
        "JPEG2000, 512 px tiles": large_tiled_jpeg2000(),
        "pyramid TIFF": large_pyramid(),
    }
    folder = context.scratch / "p5"
    # without a conversion, which would answer from our pyramid
    env = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    names = {
        kind: copies(path, folder, context.rounds, prefix=path.stem) for kind, path in kinds.items()
    }
    rows: list[Row] = []
    with ExitStack() as stack:
        data = context.scratch / "p5-data"
        server = stack.enter_context(run_server(folder, workers=1, data=data, env=env))
        server.wait_converted(expected=context.rounds * len(kinds))
        reference = stack.enter_context(iipsrv(folder))
        for kind, files in names.items():
            rows += _rows(context, kind, f"{server.public}/iiif/3/1%2F1%2F", reference, files)
    return rows


def _rows(context: Context, kind: str, ours: str, theirs: str, files: Sequence[Path]) -> list[Row]:
    context.print_progress(f"P5 {kind}")
    comparison = alternate(
        context.rounds,
        lambda number: _run_round(f"{ours}{files[number].stem}", number),
        lambda number: _run_round(f"{theirs}/{files[number].name}", number),
    )
    goal = 1.2 if kind.startswith("JPEG2000") else None
    note = f"{TILES} tiles of {EDGE} px per round, {CONCURRENCY} at a time, first requests"
    return [
        comparison.row(
            "P5",
            "requests/s",
            "/s",
            reference="iipsrv",
            at_least=goal,
            what=f"tiles, {kind}",
            note=note,
        ),
        comparison.row("P5", "p50", "ms", reference="iipsrv", what=f"tiles p50, {kind}"),
    ]


def _run_round(base: str, seed: int) -> Measured:
    return asyncio.run(fetch_all([f"{base}/{tile}" for tile in distinct_tiles(seed)]))


def distinct_tiles(seed: int, count: int = TILES) -> list[str]:
    """Image requests for different tiles on the grid; 80 % at full scale."""
    random_numbers = random.Random(seed)
    requests: dict[str, None] = {}
    while len(requests) < count:
        factor = 1 if random_numbers.random() < 0.8 else random_numbers.choice((2, 4))
        step = EDGE * factor
        x, y = (random_numbers.randrange(side // step) * step for side in LARGE)
        requests[f"{x},{y},{step},{step}/{EDGE},/0/default.jpg"] = None
    return list(requests)


async def fetch_all(urls: Sequence[str], concurrency: int = CONCURRENCY) -> Measured:
    """Request every URL once; returns requests/s, and p50 and p99 in milliseconds. Raises
    LoadError.
    """
    remaining = list(reversed(urls))
    durations_ms: list[float] = []
    connector = aiohttp.TCPConnector(limit=concurrency)

    async def run_client(http: aiohttp.ClientSession) -> None:
        while remaining:
            url = remaining.pop()
            began = time.perf_counter()
            async with http.get(URL(url, encoded=True)) as response:
                body = await response.read()
            if response.status != 200 or not body.startswith(b"\xff\xd8"):
                raise LoadError(f"{response.status} for {url}: {body[:200]!r}")
            durations_ms.append((time.perf_counter() - began) * 1000)

    async with aiohttp.ClientSession(connector=connector) as http:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(run_client(http))
        elapsed_s = time.perf_counter() - started
    durations_ms.sort()
    p99 = durations_ms[min(len(durations_ms) - 1, int(len(durations_ms) * 0.99))]
    return {
        "requests/s": len(durations_ms) / elapsed_s,
        "p50": statistics.median(durations_ms),
        "p99": p99,
    }
