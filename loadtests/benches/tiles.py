"""P5: distinct tiles of a file on local disk that no cache can answer, four at a time. The built-in
image server is compared with iipsrv (two processes behind nginx) on the same files.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
from loadtests.harness import Comparison, Measured, Row
from loadtests.processor_time import cpu_seconds, cpu_seconds_of_references, with_processor
from loadtests.wrk import LoadError
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import ServeProcess, run_server

CONCURRENCY = 4
EDGE = 512
TILES = 48
"""Distinct tiles of a JPEG2000 in one round, four of five at full scale. A pyramid has more."""


def p5(context: Context) -> list[Row]:
    """Rows for each kind of source: requests per second on a copy that was never requested."""
    kinds = {
        "JPEG2000, untiled": _Kind(large_jpeg2000(), EDGE, TILES, 1.2),
        "JPEG2000, 512 px tiles": _Kind(large_tiled_jpeg2000(), EDGE, TILES, 1.2),
        "pyramid TIFF, 512 px": _Kind(large_pyramid(), EDGE, 3 * TILES, 1.2),
        "pyramid TIFF, 256 px": _Kind(large_pyramid(), EDGE // 2, 12 * TILES, 2.5),
    }
    folder = context.scratch / "p5"
    # without a conversion or promotion, which would answer from our pyramid
    env = {
        "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
        "ORCHESTRATOR_PROMOTION__ENABLED": "false",
    }
    files = {
        kind: copies(each.path, folder, context.rounds, prefix=f"{each.path.stem}-{each.edge}")
        for kind, each in kinds.items()
    }
    rows: list[Row] = []
    with ExitStack() as stack:
        data = context.scratch / "p5-data"
        server = stack.enter_context(run_server(folder, workers=1, data=data, env=env))
        server.wait_converted(expected=context.rounds * len(kinds))
        sides = Sides(
            server, f"{server.public}/iiif/3/1%2F1%2F", stack.enter_context(iipsrv(folder))
        )
        for kind, each in kinds.items():
            context.print_progress(f"P5 {kind}")
            tiles = [
                distinct_tiles(number, each.tiles, edge=each.edge)
                for number in range(context.rounds)
            ]
            comparison = Comparison()
            for file, requests in zip(files[kind], tiles, strict=True):
                comparison.ours.append(sides.run_ours([f"{file.stem}/{tile}" for tile in requests]))
                comparison.theirs.append(
                    sides.run_theirs([f"{file.name}/{tile}" for tile in requests])
                )
            rows += _rows(comparison, kind, each)
    return rows


@dataclass(frozen=True)
class _Kind:
    """A kind of source: its file, the edge of the tiles, how many in a round, and the goal."""

    path: Path
    edge: int
    tiles: int
    goal: float


@dataclass(frozen=True)
class Sides:
    """Our server and iipsrv, which serve the same files."""

    server: ServeProcess
    ours: str
    """What stands before the identifier of an asset in our URLs."""
    theirs: str

    def run_ours(self, paths: Sequence[str], concurrency: int = CONCURRENCY) -> Measured:
        """Request every path of us once; the figures of `fetch_all`, and `processor`."""
        return with_processor(
            lambda: asyncio.run(fetch_all([self.ours + path for path in paths], concurrency)),
            lambda: cpu_seconds(self.server.process.pid),
        )

    def run_theirs(self, paths: Sequence[str], concurrency: int = CONCURRENCY) -> Measured:
        """The same of iipsrv."""
        urls = [f"{self.theirs}/{path}" for path in paths]
        return with_processor(
            lambda: asyncio.run(fetch_all(urls, concurrency)), cpu_seconds_of_references
        )


def _rows(comparison: Comparison, kind: str, about: _Kind) -> list[Row]:
    note = f"{about.tiles} tiles per round, {CONCURRENCY} at a time, first requests"
    return [
        comparison.row(
            "P5",
            "requests/s",
            "/s",
            reference="iipsrv",
            at_least=about.goal,
            what=f"tiles, {kind}",
            note=note,
        ),
        comparison.row("P5", "p50", "ms", reference="iipsrv", what=f"tiles p50, {kind}"),
        comparison.row(
            "P5", "processor", "ms", reference="iipsrv", what=f"tiles, processor each, {kind}"
        ),
    ]


def distinct_tiles(seed: int, count: int = TILES, *, edge: int = EDGE) -> list[str]:
    """Image requests for different tiles on the grid; 80 % at full scale."""
    random_numbers = random.Random(seed)
    requests: dict[str, None] = {}
    while len(requests) < count:
        factor = 1 if random_numbers.random() < 0.8 else random_numbers.choice((2, 4))
        step = edge * factor
        x, y = (random_numbers.randrange(side // step) * step for side in LARGE)
        requests[f"{x},{y},{step},{step}/{edge},/0/default.jpg"] = None
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
        "requests": len(durations_ms),
    }
