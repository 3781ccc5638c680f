"""P1 of the performance goals: a hot 12 KB tile from one serve process beside nginx serving the
same file.

    python -m loadtests.micro.bench_hot [--rounds 5] [--seconds 5] [--only off|on]

Both on loopback, one process each, wrk with 16 keep-alive connections, rounds alternating; access
log off on both sides, then on. The figures of each round, the medians, their ratio. Metrics are on.
This measures the protocol with its hot tier and nothing behind it; the installed command is
measured by `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from aiohttp import web

from loadtests.wrk import Load, wrk
from orchestrator.cache.hot.tier import HotTier
from orchestrator.model import AssetId
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.access_log import open_access_log
from orchestrator.web.hot_entries import HotEntry, store_hot
from orchestrator.web.listen_socket import open_listen_socket
from orchestrator.web.middleware import PortMiddleware
from orchestrator.web.port_runner import PortRunner
from orchestrator.web.port_state import PortState
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import (
    respond,
)
from tests.support.reference_servers import nginx_static
from tests.support.serve_process import free_port

TILE_BYTES = 12 * 1024
CANONICAL = "0,0,512,512/256,256/0/default.jpg"
TARGET = f"/iiif/3/1%2F1%2Fpicture/{CANONICAL}"


def tile() -> bytes:
    """Bytes of a JPEG's size and entropy; no part of this benchmark decodes them."""
    return b"\xff\xd8\xff" + random.Random(1).randbytes(TILE_BYTES - 3)


async def serve(port: int, access_log: str) -> None:
    """Serve one tile from one process, hot after its first request (`/cold` never is)."""
    hot: HotTier[HotEntry] = HotTier(64 * 1024**2, 1024**2)
    addresses = PublicAddressResolver([], {})
    port_state = PortState(addresses=addresses, hot=hot, access_log=open_access_log(access_log))
    body = tile()

    async def handler(request: web.Request) -> web.Response:
        base = addresses.resolve_request(request).base
        delivery = Delivery(
            status=200,
            body=body,
            media_type="image/jpeg",
            tier="disk",
            request_class="tile",
            cache_control="public, max-age=3600, s-maxage=2592000",
            asset=AssetId(1, 1, "picture"),
            version=1,
            last_modified=datetime(2026, 1, 1, tzinfo=UTC),
            canonical=CANONICAL,
            public=not request.path.startswith("/cold"),
            surrogate_keys=("asset-1%2F1%2Fpicture",),
            headers=(("Link", f'<{base}{TARGET}>;rel="canonical"'),),
            timings=(("disk", 0.1),),
        )
        store_hot(hot, request, base, delivery, hot.token())
        return respond(request, delivery)

    middleware = PortMiddleware(port_state, cache_error="max-age=10", cache_secret="no-store")
    app = web.Application(middlewares=[middleware.handle])
    app.router.add_get("/{tail:.*}", handler)
    runner = PortRunner(app, port_state, keepalive_s=75, drain_s=5)
    await runner.setup()
    await runner.listen(open_listen_socket("127.0.0.1", port, shared=False))
    await asyncio.Event().wait()


@contextmanager
def ours(access_log: str) -> Iterator[str]:
    """Our process; yields its address."""
    port = free_port()
    words = [sys.executable, "-m", "loadtests.micro.bench_hot", "--serve", str(port), access_log]
    process = subprocess.Popen(words)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


def compare(name: str, rounds: int, seconds: float, access_log: bool, target: str) -> None:
    """Alternate and print."""
    with tempfile.TemporaryDirectory(prefix="bench-hot-") as folder:
        root = Path(folder)
        (root / "tile.jpg").write_bytes(tile())
        log = str(root / "ours.log") if access_log else "off"
        with nginx_static(root, access_log=access_log) as theirs, ours(log) as mine:
            urls = mine + target, f"{theirs}/tile.jpg"
            for url in urls:
                wrk(url, seconds=1)
            runs: tuple[list[Load], list[Load]] = ([], [])
            for number in range(rounds):
                for side, url in enumerate(urls):
                    runs[side].append(wrk(url, seconds=seconds))
                a, b = runs[0][-1], runs[1][-1]
                print(
                    f"  {name} round {number + 1}: "
                    f"ours {a.requests_s:8.0f}/s p99 {a.p99_ms:6.2f} ms   "
                    f"nginx {b.requests_s:8.0f}/s p99 {b.p99_ms:6.2f} ms   "
                    f"ratio {a.requests_s / b.requests_s:.2f}",
                    flush=True,
                )
            summary(name, *runs)


def summary(name: str, mine: list[Load], theirs: list[Load]) -> None:
    """Medians and their ratios, with the spread of the rounds' ratios."""
    ratios = [a.requests_s / b.requests_s for a, b in zip(mine, theirs, strict=True)]
    rate = [statistics.median(run.requests_s for run in side) for side in (mine, theirs)]
    late = [statistics.median(run.p99_ms for run in side) for side in (mine, theirs)]
    print(
        f"{name}: ours {rate[0]:.0f}/s, nginx {rate[1]:.0f}/s, ratio {rate[0] / rate[1]:.2f} "
        f"(rounds {min(ratios):.2f}-{max(ratios):.2f}); p99 {late[0]:.2f} ms and "
        f"{late[1]:.2f} ms, ratio {late[0] / late[1]:.2f}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", choices=("off", "on"))
    parser.add_argument("--cold", action="store_true", help="through the handler each time instead")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "LOG"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve(int(arguments.serve[0]), arguments.serve[1]))
        return
    for mode in ("off", "on"):
        if arguments.only in (None, mode):
            target = "/cold" if arguments.cold else TARGET
            compare(f"access log {mode}", arguments.rounds, arguments.seconds, mode == "on", target)


if __name__ == "__main__":
    main()
