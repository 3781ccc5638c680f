"""P14: pictures shaped by their URL, beside thumbor: sizes that were never requested (misses), and
one that was (hits), also beside nginx.
"""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from loadtests.benches.context import Context
from loadtests.benches.thumbor_server import thumbor
from loadtests.benches.tiles import CONCURRENCY, fetch_all
from loadtests.collection import small_jpegs
from loadtests.harness import Comparison, Measured, Row, alternate
from loadtests.processor_time import cpu_seconds
from loadtests.wrk import LoadError, wrk
from tests.support.reference_servers import nginx_static
from tests.support.serve_process import fetch, run_server

QUALITY = 75
ORIGINALS = 20
MISSES = 60
"""Requests of one round."""
Size = tuple[int, int]
"""(width, height) in pixels."""


def p14(context: Context) -> list[Row]:
    """Misses and hits of the same shapes of the same originals."""
    folders = [_copy_originals(context.scratch / name) for name in ("ours", "theirs")]
    env = {"ORCHESTRATOR_ICO__OPEN": "true", "ORCHESTRATOR_ICO__FOLDER": str(folders[0])}
    empty = context.scratch / "p14-pictures"
    empty.mkdir()
    with ExitStack() as stack:
        data = context.scratch / "p14-data"
        server = stack.enter_context(run_server(empty, workers=1, data=data, env=env))
        work = context.scratch / "thumbor"
        other = stack.enter_context(thumbor(folders[1], work, quality=QUALITY))
        ours, theirs = f"{server.public}/ico", f"{other.address}/unsafe"
        pids = server.process.pid, other.pid
        _check_alike(_our_url(ours, (300, 200), "small-0.jpg"), f"{theirs}/300x200/small-0.jpg")
        context.print_progress("P14 misses")
        misses = alternate(
            context.rounds,
            lambda number: _miss(
                [_our_url(ours, size, name) for size, name in shapes(number)], pids[0]
            ),
            lambda number: _miss(
                [f"{theirs}/{size[0]}x{size[1]}/{name}" for size, name in shapes(number)], pids[1]
            ),
        )
        hit = _our_url(ours, (300, 200), "small-0.jpg")
        static = context.scratch / "static"
        static.mkdir()
        (static / "same.jpg").write_bytes(fetch(hit).body)
        if (tier := fetch(hit).headers.get("x-served-from", "")) != "memory":
            raise LoadError(f"the hit must come from memory, but comes from {tier or 'no tier'}")
        nginx = stack.enter_context(nginx_static(static))
        context.print_progress("P14 hits")
        hits = _compare_hits(context, hit, f"{theirs}/300x200/small-0.jpg")
        plain = _compare_hits(context, hit, f"{nginx}/same.jpg")
    return _rows(misses, hits, plain)


def shapes(number: int, count: int = MISSES) -> list[tuple[Size, str]]:
    """(size, name of the original) of each request of a round: no size of an original occurs twice,
    in any round.
    """
    first = number * count
    return [
        ((160 + n, 120 + n * 2 // 3), f"small-{n % ORIGINALS}.jpg")
        for n in range(first, first + count)
    ]


def _rows(misses: Comparison, hits: Comparison, plain: Comparison) -> list[Row]:
    note = f"{MISSES} shapes per round of originals of 1 to 2 megapixels, {CONCURRENCY} at a time"
    return [
        misses.row("P14", "requests/s", "/s", reference="thumbor", at_least=2.0,
                   what="ico, misses", note=note),
        misses.row("P14", "cpu ms", "ms", reference="thumbor", what="ico, processor per miss"),
        misses.row("P14", "p99", "ms", reference="thumbor", what="ico, misses, p99"),
        hits.row("P14", "requests/s", "/s", reference="thumbor", what="ico, hits"),
        plain.row("P14", "requests/s", "/s", reference="nginx", at_least=1.0, what="ico, hits"),
        plain.row("P14", "p99", "ms", reference="nginx", at_most=2.0, what="ico, hits, p99"),
    ]  # fmt: skip


def _copy_originals(folder: Path) -> Path:
    """The originals in a folder of their own: results are stored beside them."""
    folder.mkdir()
    for path in small_jpegs():
        shutil.copy(path, folder)
    return folder


def _our_url(base: str, size: Size, name: str) -> str:
    return f"{base}/width={size[0]},height={size[1]},crop=center,quality={QUALITY}/{name}"


def _check_alike(*urls: str) -> None:
    """Raises LoadError if the two sides do not answer a JPEG of the same size."""
    found = []
    for url in urls:
        with Image.open(io.BytesIO(fetch(url).body)) as image:
            found.append((image.format, image.size))
    if found[0] != found[1] or found[0][0] != "JPEG":
        raise LoadError(f"the answers are not alike: {found}")


def _miss(urls: Sequence[str], pid: int) -> Measured:
    before = cpu_seconds(pid)
    figures = asyncio.run(fetch_all(urls))
    return {**figures, "cpu ms": 1000 * (cpu_seconds(pid) - before) / len(urls)}


def _compare_hits(context: Context, ours: str, theirs: str) -> Comparison:
    for url in (ours, theirs):
        wrk(url, seconds=1)  # warm-up, not measured
    return alternate(
        context.rounds,
        lambda _: wrk(ours, seconds=context.seconds).figures(),
        lambda _: wrk(theirs, seconds=context.seconds).figures(),
    )
