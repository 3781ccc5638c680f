"""P8: a thumbnail that lies in S3 and in no cache, beside a bare aiobotocore GET of its key."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import aiohttp
from aiobotocore.session import get_session
from yarl import URL

from loadtests.benches.context import Context
from loadtests.benches.objects import BUCKET, CREDENTIALS, s3_settings, weed_with_counter
from loadtests.harness import Measured, Row, alternate
from loadtests.wrk import LoadError
from tests.support.scenes import write_jpeg
from tests.support.serve_process import run_server

PICTURES = 40
EDGES = (1000, 400, 200)


def p8(context: Context) -> list[Row]:
    """p50 and p99 of one request at a time, each thumbnail asked for once."""
    folder = context.scratch / "p8"
    for number in range(PICTURES):
        write_jpeg(folder / f"picture-{number}.jpg", 1200, 900, seed=number)
    with ExitStack() as stack:
        tally = stack.enter_context(weed_with_counter(context.scratch / "weed"))
        data = context.scratch / "p8-data"
        server = stack.enter_context(run_server(folder, data=data, env=s3_settings(tally.address)))
        server.wait_converted(expected=PICTURES)
        keys = asyncio.run(_thumbnail_keys(tally.address))
        wanted = _wanted(server.public, server.identifiers(), keys)
        share = len(wanted) // context.rounds
        parts = [wanted[n * share : (n + 1) * share] for n in range(context.rounds)]
        duel = alternate(
            context.rounds,
            lambda number: asyncio.run(_over_http([url for url, _ in parts[number]])),
            lambda number: asyncio.run(_bare(tally.address, [key for _, key in parts[number]])),
        )
    note = f"{share} thumbnails a round, one at a time, none asked for before"
    return [
        duel.row(
            "P8", "p50", "ms", rival="S3 GET", at_most=1.3, what="thumbnail from S3, p50", note=note
        ),
        duel.row("P8", "p99", "ms", rival="S3 GET", what="thumbnail from S3, p99"),
    ]


async def _thumbnail_keys(endpoint: str) -> set[str]:
    async with _client(endpoint) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {each["Key"] async for page in pages for each in page.get("Contents", [])}


def _wanted(public: str, identifiers: dict[str, str], keys: set[str]) -> list[tuple[str, str]]:
    """(address, key) of every thumbnail, those of one picture far apart."""
    found = []
    for edge in EDGES:
        size = f"{edge},{edge * 3 // 4}"
        for asset, identifier in identifiers.items():
            key = next(k for k in keys if k.startswith(f"{asset}/") and k.endswith(f"/{edge}.jpg"))
            found.append((f"{public}/iiif/3/{identifier}/full/{size}/0/default.jpg", key))
    return found


async def _over_http(urls: Sequence[str]) -> Measured:
    async with aiohttp.ClientSession() as http:

        async def ask(url: str) -> bytes:
            async with http.get(URL(url, encoded=True)) as response:
                body = await response.read()
                tier = response.headers.get("X-Served-From", "")
            if response.status != 200 or tier != "thumb":
                raise LoadError(f"{response.status} from {tier or 'nowhere'} for {url}")
            return body

        await (await http.get(URL(urls[0]).origin() / "health" / "live")).read()
        return await _timed(urls, ask)


async def _bare(endpoint: str, keys: Sequence[str]) -> Measured:
    async with _client(endpoint) as s3:

        async def ask(key: str) -> bytes:
            answer = await s3.get_object(Bucket=BUCKET, Key=key)
            async with answer["Body"] as stream:
                body: bytes = await stream.read()
            return body

        await s3.head_bucket(Bucket=BUCKET)
        return await _timed(keys, ask)


async def _timed(wanted: Sequence[str], ask: Callable[[str], Awaitable[bytes]]) -> Measured:
    took = []
    for each in wanted:
        began = time.perf_counter()
        body = await ask(each)
        took.append((time.perf_counter() - began) * 1000)
        if not body.startswith(b"\xff\xd8"):
            raise LoadError(f"no JPEG: {each}")
    took.sort()
    return {"p50": statistics.median(took), "p99": took[int(len(took) * 0.99)]}


def _client(endpoint: str) -> Any:
    access, secret = CREDENTIALS
    return get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )
