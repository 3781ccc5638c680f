"""A simple image server for tests of pools: it answers any image request with one colour in the
requested size, as late as it is told to, and counts what it gets. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from aiohttp import web
from PIL import Image

from tests.support.serve_process import free_port

_IMAGE = re.compile(r"/(full|\d+,\d+,(\d+),(\d+))/(\d*),(\d*)/[^/]+/default\.jpg$")
FULL_SIZE = (4000, 3000)


class ImageNode:
    """One image server. Its fields may be changed and read while it runs."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.delay_s = 0.0
        self.status = 200
        self.failures: int | None = None
        """How many images are answered with `status`; None: all."""
        self.cut_answers = 0
        """How many images are answered with 200 and half of their bytes, as by a load balancer that
        has lost the server behind it.
        """
        self.targets: list[str] = []
        """The targets of all image requests, in the order of their arrival."""
        self.other: list[str] = []
        """The targets of all other requests."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections_closed = 0
        """How many connections the client has closed."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`, the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen and answer."""
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        assert started.wait(60)

    def stop(self) -> None:
        """Close the port and all connections, as a process that is killed. May be repeated."""
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            self._thread = None

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        node = self

        class Protocol(web.RequestHandler):
            def connection_lost(self, exc: BaseException | None) -> None:
                node.connections_closed += 1
                super().connection_lost(exc)

        server = web.Server(self._answer)
        listening = await self._loop.create_server(
            lambda: Protocol(server, loop=self._loop, access_log=None, keepalive_timeout=600),
            "127.0.0.1",
            self.port,
            backlog=1024,
        )
        started.set()
        await self._stop.wait()
        listening.close()
        for connection in list(server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await server.shutdown(0.1)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match = _IMAGE.search(request.raw_path)
        (self.targets if match else self.other).append(request.raw_path)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._wait(self.delay_s)
        finally:
            self.in_flight -= 1
        if match is None:
            return web.Response(status=404)
        if self.status != 200 and self.failures != 0:
            self.failures = None if self.failures is None else self.failures - 1
            return web.Response(status=self.status)
        region = (int(match[2]), int(match[3])) if match[2] else FULL_SIZE
        body = _jpeg(_size_of(region, match[4], match[5]))
        if self.cut_answers:
            self.cut_answers -= 1
            body = body[: len(body) // 2]
        return web.Response(body=body, content_type="image/jpeg")

    async def _wait(self, seconds: float) -> None:
        """Wait, but no longer than `delay_s` says by then."""
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - started < min(seconds, self.delay_s):
            await asyncio.sleep(0.01)


@contextmanager
def image_nodes(count: int) -> Iterator[list[ImageNode]]:
    """`count` running nodes."""
    nodes = [ImageNode() for _ in range(count)]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.delay_s = 0
            node.stop()


def _size_of(region: tuple[int, int], width: str, height: str) -> tuple[int, int]:
    if width and height:
        return int(width), int(height)
    if width:
        return int(width), max(1, (2 * region[1] * int(width) + region[0]) // (2 * region[0]))
    return max(1, (2 * region[0] * int(height) + region[1]) // (2 * region[1])), int(height)


@lru_cache
def _jpeg(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(file, "JPEG")
    return file.getvalue()
