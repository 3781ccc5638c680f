"""P4: the first tile at full scale, the first one at an eighth, and a picture of 1,000 pixels of an
image that was never requested, with its source in S3 and nothing on this host. The reference is a
plain GET of the whole source and a decode of the same pixels in a decode worker that runs.

Everything is measured twice: on the loopback, and through a proxy that holds each request back for
40 ms and sends at most 60 MB/s over each connection, as S3 does. The bytes that an answer needs are
measured by a server that never copies a source: otherwise the copy runs beside the answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.benches.batch_client import BatchClient
from loadtests.benches.context import Context
from loadtests.benches.s3_server import BUCKET, aio_client, counted_s3_server, s3_settings
from loadtests.collection import LARGE, converted_jpeg2000, heavy_jpeg2000, large_pyramid
from loadtests.harness import Comparison, Measured, Row
from loadtests.wrk import LoadError
from orchestrator.catalog.embedded.database import embedded
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Recipe
from orchestrator.settings import Imaging
from tests.support.counting_proxy import CountedRequests
from tests.support.serve_process import ServeProcess, fetch, run_server

_MOST_ROUNDS = 3
"""Each measurement needs a source of its own, of 25 to 50 MB."""
_MOST_READ = 0.05
_VIEWS = {
    "tile, full scale": ((3072, 2048, 512, 512), (512, 512)),
    "tile, 1:8": ((0, 0, 4096, 4096), (512, 512)),
    "!1000,1000": ((0, 0, *LARGE), (1000, 750)),
}
_NETWORKS = {"loopback": (0.0, 0.0), "like S3": (0.04, 60e6)}


@dataclass(frozen=True)
class _Sides:
    """What both sides use."""

    server: ServeProcess
    without_copies: ServeProcess
    """Serves the same assets, and never copies a source."""
    counted: CountedRequests
    pool: ImagingPool
    scratch: Path


def p4(context: Context) -> list[Row]:
    """Seconds of both sides, and the share of the object that we read, for each kind of source."""
    kinds = {
        "our JPEG2000, 512 px tiles": converted_jpeg2000(),
        "JPEG2000, untiled": heavy_jpeg2000(),
        "pyramid TIFF": large_pyramid(),
    }
    rounds = min(context.rounds, _MOST_ROUNDS)
    number = rounds * len(_VIEWS) * len(_NETWORKS)
    rows: list[Row] = []
    with asyncio.Runner() as runner, ExitStack() as stack:
        counted = stack.enter_context(counted_s3_server(context.scratch / "weed"))
        pool = ImagingPool(Imaging(processes=1))
        stack.callback(lambda: runner.run(pool.close()))
        roots = [str(path.parent) for path in kinds.values()]
        database = stack.enter_context(embedded(context.scratch / "database"))
        env = s3_settings(counted.address) | {
            "ORCHESTRATOR_INGEST__FILE_ROOTS": json.dumps(roots),
            "ORCHESTRATOR_DATABASE__DSN": database.dsn,
        }
        never = {"ORCHESTRATOR_CACHE__RULES": json.dumps([{"asset_id": "", "orchestrate": False}])}
        servers = [
            stack.enter_context(run_server(workers=1, data=context.scratch / name, env=each))
            for name, each in (("p4-data", env), ("p4-never", env | never))
        ]
        sides = _Sides(*servers, counted, pool, context.scratch)
        client = BatchClient(sides.server, env)
        for position, (kind, path) in enumerate(kinds.items()):
            context.print_progress(f"P4 {kind}")
            client.run_batch(
                [path] * number, f"k{position}", imageOptimisationPolicy="use-original"
            )
            names = iter(f"k{position}-{count}" for count in range(number))
            rows += _rows(runner, sides, kind, path, rounds, names)
    return rows


def _rows(
    runner: asyncio.Runner,
    sides: _Sides,
    kind: str,
    path: Path,
    rounds: int,
    names: Iterator[str],
) -> list[Row]:
    rows = []
    for network in _NETWORKS:
        for view in _VIEWS:
            comparison, shares = Comparison(), []
            with _network(sides.counted, network):
                for _ in range(rounds):
                    name = next(names)
                    read = sides.counted.received
                    _ask(sides.without_copies, name, view)
                    shares.append((sides.counted.received - read) / path.stat().st_size)
                    comparison.ours.append(_ask(sides.server, name, view))
                    theirs = _get_and_decode(sides, name, path, view)
                    comparison.theirs.append(runner.run(theirs))
            note = f"{max(shares):.1%} of the object read (goal at most {_MOST_READ:.0%})"
            what = f"{view}, {kind}, {network}"
            rows.append(
                comparison.row(
                    "P4",
                    "ms",
                    "ms",
                    reference="GET and decode",
                    at_most=0.3,
                    what=what,
                    note=note,
                )
            )
    return rows


@contextmanager
def _network(counted: CountedRequests, name: str) -> Iterator[None]:
    counted.latency_s, counted.bytes_per_s = _NETWORKS[name]
    try:
        yield
    finally:
        counted.latency_s, counted.bytes_per_s = 0.0, 0.0


def _ask(server: ServeProcess, name: str, view: str) -> Measured:
    (x, y, width, height), (w, h) = _VIEWS[view]
    region = "full" if (width, height) == LARGE else f"{x},{y},{width},{height}"
    url = f"{server.public}/iiif/3/1%2F1%2F{name}/{region}/{w},{h}/0/default.jpg"
    began = time.perf_counter()
    reply = fetch(url)
    took_ms = (time.perf_counter() - began) * 1000
    if reply.status != 200:
        raise LoadError(f"{reply.status} for {url}: {reply.body[:200]!r}")
    return {"ms": took_ms}


async def _get_and_decode(sides: _Sides, name: str, path: Path, view: str) -> Measured:
    """GET the source of the asset as a whole, and cut the same picture of it."""
    probe = await sides.pool.probe(path)
    region, size = _VIEWS[view]
    async with aio_client(sides.counted.address) as s3:
        listed = await s3.list_objects_v2(Bucket=BUCKET, Prefix=f"1/1/{name}/")
        key = max(listed["Contents"], key=lambda each: each["Size"])["Key"]
        target = sides.scratch / f"whole{path.suffix}"
        began = time.perf_counter()
        answer = await s3.get_object(Bucket=BUCKET, Key=key)
        async with answer["Body"] as stream:
            await asyncio.to_thread(target.write_bytes, await stream.read())
        await sides.pool.render(
            Recipe(str(target), probe.kind, probe.dimensions, probe.levels, region, size)
        )
        took_ms = (time.perf_counter() - began) * 1000
    target.unlink()
    return {"ms": took_ms}
