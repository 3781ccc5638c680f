"""A TCP proxy that counts the HTTP requests that reach the server behind it, and can make it slow.

It changes no byte, so signatures stay valid if the client signs for the address of the proxy.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")


class CountedRequests:
    """Every request that passed the proxy, in order, as (method, target)."""

    def __init__(self, address: str) -> None:
        self.address = address
        """Address of the proxy, `http://127.0.0.1:P`."""
        self.delay_s = 0.0
        """Seconds for which each piece of a response is held back: a slow server."""
        self.latency_s = 0.0
        """Seconds for which each request is held back: a distant server."""
        self.bytes_per_s = 0.0
        """Highest rate of each connection; 0 for no limit."""
        self._requests: list[tuple[str, str]] = []
        self._received = 0
        self._lock = threading.Lock()

    @property
    def received(self) -> int:
        """Bytes of the responses, including their heads."""
        with self._lock:
            return self._received

    def count_response(self, count: int) -> None:
        """Count bytes of a response."""
        with self._lock:
            self._received += count

    def count_request(self, chunk: bytes) -> None:
        """Count the chunk if it begins with the head of a request (clients write heads in one
        piece).
        """
        if chunk.startswith(_METHODS):
            method, _, rest = chunk.partition(b"\r\n")[0].decode("latin-1").partition(" ")
            with self._lock:
                self._requests.append((method, rest.rpartition(" ")[0]))

    def requests(self, method: str = "", containing: str = "") -> list[tuple[str, str]]:
        """The requests of this method (all methods if empty) with this text in their target."""
        with self._lock:
            requests = list(self._requests)
        return [
            (name, target)
            for name, target in requests
            if method in ("", name) and containing in target
        ]

    def clear(self) -> None:
        """Forget all requests so far."""
        with self._lock:
            self._requests.clear()
            self._received = 0


@contextmanager
def counting_proxy(upstream: str) -> Iterator[CountedRequests]:
    """A proxy for `http://host:port`, in its own thread."""
    host, _, port = upstream.removeprefix("http://").rstrip("/").partition(":")
    ready: threading.Event = threading.Event()
    result: list[CountedRequests] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _connect(reader, writer, host, int(port), result[0])

        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
        result.append(CountedRequests(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        ready.set()
        await stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield result[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _connect(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    port: int,
    counted: CountedRequests,
) -> None:
    try:
        server_reader, server_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    with suppress(asyncio.CancelledError):
        await asyncio.gather(
            _copy(
                reader,
                server_writer,
                counted.count_request,
                lambda chunk: counted.latency_s if chunk.startswith(_METHODS) else 0.0,
            ),
            _copy(
                server_reader,
                writer,
                lambda chunk: counted.count_response(len(chunk)),
                lambda chunk: counted.delay_s + _sending_s(counted, len(chunk)),
            ),
        )


def _sending_s(counted: CountedRequests, length: int) -> float:
    return length / counted.bytes_per_s if counted.bytes_per_s else 0.0


async def _copy(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    count: Callable[[bytes], None],
    delay_s: Callable[[bytes], float],
) -> None:
    try:
        while chunk := await reader.read(1 << 18):
            count(chunk)
            if wait_s := delay_s(chunk):
                await asyncio.sleep(wait_s)
            writer.write(chunk)
            await writer.drain()
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        with suppress(OSError, RuntimeError):
            writer.close()
