"""P8: a thumbnail that is in S3 and in no cache, compared with a GET of its key by aiobotocore."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import aiohttp
from yarl import URL

from loadtests.benches.context import Context
from loadtests.benches.s3_server import BUCKET, aio_client, counted_s3_server, s3_settings
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from tests.support.scenes import write_jpeg
from tests.support.serve_process import run_server

PICTURES = 40
EDGES = (1000, 400, 200)


def p8(context: Context) -> list[Row]:
    """p50 and p99 of single requests; each thumbnail is requested once."""
    folder = context.scratch / "p8"
    for number in range(PICTURES):
        write_jpeg(folder / f"picture-{number}.jpg", 1200, 900, seed=number)
    with ExitStack() as stack:
        counted = stack.enter_context(counted_s3_server(context.scratch / "weed"))
        data = context.scratch / "p8-data"
        server = stack.enter_context(
            run_server(folder, data=data, env=s3_settings(counted.address))
        )
        server.wait_converted(expected=PICTURES)
        keys = asyncio.run(_thumbnail_keys(counted.address))
        thumbnails = _list_thumbnails(server.public, server.identifiers(), keys)
        share = len(thumbnails) // context.rounds
        parts = [thumbnails[n * share : (n + 1) * share] for n in range(context.rounds)]
        comparison = alternate(
            context.rounds,
            lambda number: asyncio.run(_fetch_from_server([url for url, _ in parts[number]])),
            lambda number: asyncio.run(
                _fetch_from_s3(counted.address, [key for _, key in parts[number]])
            ),
        )
    note = f"{share} thumbnails per round, one at a time, none requested before"
    return [
        comparison.row(
            "P8",
            "p50",
            "ms",
            reference="S3 GET",
            at_most=1.3,
            what="thumbnail from S3, p50",
            note=note,
        ),
        comparison.row("P8", "p99", "ms", reference="S3 GET", what="thumbnail from S3, p99"),
    ]


async def _thumbnail_keys(endpoint: str) -> set[str]:
    async with aio_client(endpoint) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {each["Key"] async for page in pages for each in page.get("Contents", [])}


def _list_thumbnails(
    public: str, identifiers: dict[str, str], keys: set[str]
) -> list[tuple[str, str]]:
    """(URL, key) of every thumbnail. The thumbnails of one image are far apart in the list."""
    thumbnails = []
    for edge in EDGES:
        size = f"{edge},{edge * 3 // 4}"
        for asset, identifier in identifiers.items():
            key = next(k for k in keys if k.startswith(f"{asset}/") and k.endswith(f"/{edge}.jpg"))
            thumbnails.append((f"{public}/iiif/3/{identifier}/full/{size}/0/default.jpg", key))
    return thumbnails


async def _fetch_from_server(urls: Sequence[str]) -> Measured:
    async with aiohttp.ClientSession() as http:

        async def fetch(url: str) -> bytes:
            async with http.get(URL(url, encoded=True)) as response:
                body = await response.read()
                tier = response.headers.get("X-Served-From", "")
            if response.status != 200 or tier != "thumb":
                raise LoadError(f"{response.status} from {tier or 'no tier'} for {url}")
            return body

        await (await http.get(URL(urls[0]).origin() / "health" / "live")).read()
        return await _measure(urls, fetch)


async def _fetch_from_s3(endpoint: str, keys: Sequence[str]) -> Measured:
    async with aio_client(endpoint) as s3:

        async def fetch(key: str) -> bytes:
            answer = await s3.get_object(Bucket=BUCKET, Key=key)
            async with answer["Body"] as stream:
                body: bytes = await stream.read()
            return body

        await s3.head_bucket(Bucket=BUCKET)
        return await _measure(keys, fetch)


async def _measure(names: Sequence[str], fetch: Callable[[str], Awaitable[bytes]]) -> Measured:
    durations_ms = []
    for name in names:
        began = time.perf_counter()
        body = await fetch(name)
        durations_ms.append((time.perf_counter() - began) * 1000)
        if not body.startswith(b"\xff\xd8"):
            raise LoadError(f"not a JPEG: {name}")
    durations_ms.sort()
    return {
        "p50": statistics.median(durations_ms),
        "p99": durations_ms[int(len(durations_ms) * 0.99)],
    }
