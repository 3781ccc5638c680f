"""P17: how the cost of an answer grows: by the tier that answers, by scale factor, with the size of
the image, and with the number of clients. Each point has p50, p99 and processor time for each
request. The sources are files as the default policies write them, and nothing is converted.

The gigapixel files take minutes to make: they are measured if CURVES_LONG is set.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import aiohttp
from yarl import URL

from loadtests.benches.batch_client import BatchClient
from loadtests.benches.context import Context
from loadtests.benches.s3_server import counted_s3_server, s3_settings
from loadtests.collection import MEGAPIXELS, sized_source, small_jpegs
from loadtests.harness import Point
from loadtests.processor_time import cpu_seconds
from loadtests.wrk import LoadError
from tests.support.serve_process import ServeProcess, run_server

BENCH = "P17"
CLIENTS = (1, 4, 16, 64, 256)
FACTORS = (1, 2, 4, 8, 16)
REQUESTS = int(os.environ.get("CURVES_REQUESTS", "24"))
"""Requests of one point that no cache can answer."""
RANGES = "imageserver, ranges of S3"
_FREQUENT = 20
"""How many times more requests a point has that memory or disk answers."""
_KINDS = {"pyramid TIFF": "tif", "JPEG2000": "jp2"}
_PLAIN = {
    "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
    "ORCHESTRATOR_PROMOTION__ENABLED": "false",
    "ORCHESTRATOR_IMAGING__SIBLINGS": "false",  # they would answer requests of other points
}
_NO_MEMORY = {"ORCHESTRATOR_CACHE__MEMORY": "0", "ORCHESTRATOR_CACHE__MEMORY_HEADS": "0"}


def p17(context: Context) -> list[Point]:
    """The points of all curves."""
    megapixels = [each for each in MEGAPIXELS if each < 1000 or os.environ.get("CURVES_LONG")]
    folder = context.scratch / "curves"
    folder.mkdir()
    for size in megapixels:
        for form in _KINDS.values():
            shutil.copyfile(sized_source(size, form), folder / f"{size}-{form}.{form}")
    points = _tiers(context)
    with run_server(folder, workers=1, data=context.scratch / "curves-data", env=_PLAIN) as server:
        server.wait_converted(expected=len(megapixels) * len(_KINDS))
        names = server.identifiers()
        for kind, form in _KINDS.items():
            context.print_progress(f"{BENCH} {kind}")
            files = {size: _Image(names[f"1/1/{size}-{form}"], size) for size in megapixels}
            largest = files[max(each for each in megapixels if each <= 200)]
            for size, image in files.items():
                paths = image.tiles(1, REQUESTS)
                points.append(_measure(server, paths, "megapixels", kind, str(size)))
            for factor in FACTORS:
                paths = largest.tiles(factor, REQUESTS)
                points.append(_measure(server, paths, "scale factor", kind, str(factor)))
            for clients in CLIENTS:
                paths = largest.tiles(1, max(REQUESTS, clients))
                what = f"distinct tiles, {kind}"
                points.append(_measure(server, paths, "clients", what, str(clients), clients))
        hot = largest.tiles(1, 1)
        for clients in CLIENTS:
            paths = hot * (REQUESTS * _FREQUENT)
            points.append(_measure(server, paths, "clients", "hot tile", str(clients), clients))
    return points


class _Image:
    """One image of the bench, and the tiles that a viewer could request of it. No two calls return
    the same tile.
    """

    def __init__(self, identifier: str, megapixels: int) -> None:
        self._path = f"/iiif/3/{identifier}"
        self._size = MEGAPIXELS[megapixels]
        self._left: dict[int, list[tuple[int, int]]] = {}

    def tiles(self, factor: int, count: int) -> list[str]:
        """At most `count` tiles of 512 pixels at a scale factor."""
        edge = 512 * factor
        if factor not in self._left:
            columns, rows = (max(1, side // edge) for side in self._size)
            places = [(x, y) for y in range(rows) for x in range(columns)]
            random.Random(factor).shuffle(places)
            self._left[factor] = places
        left = self._left[factor]
        chosen, left[:count] = left[:count], []
        return [
            f"{self._path}/{x * edge},{y * edge},{edge},{edge}/512,512/0/default.jpg"
            for x, y in chosen
        ]


def _tiers(context: Context) -> list[Point]:
    """A point for each tier, of requests that only this tier can answer first."""
    context.print_progress(f"{BENCH} tiers")
    folder = context.scratch / "tiers"
    folder.mkdir()
    for path in small_jpegs():
        shutil.copyfile(path, folder / path.name)
    points = []
    for name, env in (("memory", {}), ("disk", _NO_MEMORY)):
        with run_server(folder, workers=1, data=context.scratch / name, env=env) as server:
            server.wait_converted(expected=len(small_jpegs()))
            images = [f"/iiif/3/{each}" for each in server.identifiers().values()]
            sizes = {"thumb": "400,", "resize": "300,"}
            requests = {
                tier: [f"{image}/full/{size}/0/default.jpg" for image in images]
                for tier, size in sizes.items()
            }
            requests["imageserver"] = [f"{each}/7,7,400,400/200,/0/default.jpg" for each in images]
            first = [_measure(server, paths, "tier", tier, "") for tier, paths in requests.items()]
            if name == "memory":
                points += first
            repeated = requests["resize"] * _FREQUENT
            points.append(_measure(server, repeated, "tier", name, ""))
    with _uncopied(context) as (server, path):
        paths = _Image(path, 50).tiles(1, REQUESTS)
        points.append(_measure(server, paths, "tier", RANGES, ""))
    return points


@contextmanager
def _uncopied(context: Context) -> Iterator[tuple[ServeProcess, str]]:
    """A server with a source of 50 megapixels in S3 that it never copies; the identifier of it."""
    source = sized_source(50, "tif")
    with counted_s3_server(context.scratch / "weed") as counted:
        env = s3_settings(counted.address) | {
            "ORCHESTRATOR_INGEST__FILE_ROOTS": json.dumps([str(source.parent)]),
            "ORCHESTRATOR_CACHE__RULES": json.dumps([{"asset_id": "", "orchestrate": False}]),
        }
        with run_server(workers=1, data=context.scratch / "ranges", env=env) as server:
            client = BatchClient(server, env)
            client.run_batch([source], "far", imageOptimisationPolicy="use-original")
            yield server, server.identifiers()["1/1/far-0"]


def _measure(
    server: ServeProcess,
    paths: Sequence[str],
    curve: str,
    line: str,
    at: str,
    clients: int = 1,
) -> Point:
    """Request every path once. For the curve of the tiers only answers of the tier that begins
    `line` count. Raises LoadError.
    """
    before = cpu_seconds(server.process.pid)
    durations = asyncio.run(_fetch([server.public + path for path in paths], clients))
    used_ms = 1000 * (cpu_seconds(server.process.pid) - before) / len(paths)
    tier = line.partition(",")[0]
    counted = durations[tier] if curve == "tier" else list(chain.from_iterable(durations.values()))
    if not counted:
        raise LoadError(f"no answer came from the tier {tier}: {sorted(durations)}")
    counted.sort()
    p99 = counted[min(len(counted) - 1, int(0.99 * len(counted)))]
    return Point(BENCH, curve, line, at, statistics.median(counted), p99, used_ms)


async def _fetch(urls: Sequence[str], clients: int) -> dict[str, list[float]]:
    """Request the URLs in order; milliseconds of the answers by tier. A refused request (503) is
    no answer.
    """
    remaining = list(reversed(urls))
    durations: dict[str, list[float]] = defaultdict(list)

    async def run_client(http: aiohttp.ClientSession) -> None:
        while remaining:
            url = remaining.pop()
            began = time.perf_counter()
            async with http.get(URL(url, encoded=True)) as response:
                body = await response.read()
            if response.status == 503 and "Retry-After" in response.headers:
                continue
            if response.status != 200:
                raise LoadError(f"{response.status} for {url}: {body[:200]!r}")
            tier = response.headers["X-Served-From"]
            durations[tier].append((time.perf_counter() - began) * 1000)

    connector = aiohttp.TCPConnector(limit=clients)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(clients):
            group.create_task(run_client(http))
    return durations
