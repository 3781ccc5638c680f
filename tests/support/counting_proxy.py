"""A plain TCP proxy that counts HTTP request lines on their way: what really reached the store.

It changes no byte, so signatures hold as long as the client signs for the proxy's own address.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")


class CountedRequests:
    """Every request seen, in order, as (method, target)."""

    def __init__(self, address: str) -> None:
        self.address = address
        """Where to connect instead, `http://127.0.0.1:P`."""
        self._seen: list[tuple[str, str]] = []
        self._received = 0
        self._lock = threading.Lock()

    @property
    def received(self) -> int:
        """Bytes that came back, heads of answers included."""
        with self._lock:
            return self._received

    def note_answer(self, count: int) -> None:
        """Count bytes on their way back."""
        with self._lock:
            self._received += count

    def note(self, chunk: bytes) -> None:
        """Count the chunk if a request's head begins it (clients write heads in one piece)."""
        if chunk.startswith(_METHODS):
            method, _, rest = chunk.partition(b"\r\n")[0].decode("latin-1").partition(" ")
            with self._lock:
                self._seen.append((method, rest.rpartition(" ")[0]))

    def requests(self, method: str = "", containing: str = "") -> list[tuple[str, str]]:
        """Those of this method (all without) with this text in their target."""
        with self._lock:
            seen = list(self._seen)
        return [each for each in seen if method in ("", each[0]) and containing in each[1]]

    def clear(self) -> None:
        """Forget what was seen so far."""
        with self._lock:
            self._seen.clear()
            self._received = 0


@contextmanager
def counting_proxy(upstream: str) -> Iterator[CountedRequests]:
    """Stand before `http://host:port`; lives in a thread of its own."""
    host, _, port = upstream.removeprefix("http://").rstrip("/").partition(":")
    ready: threading.Event = threading.Event()
    box: list[CountedRequests] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _splice(reader, writer, host, int(port), box[0])

        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        box.append(CountedRequests(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
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
        yield box[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _splice(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    port: int,
    counted: CountedRequests,
) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    with suppress(asyncio.CancelledError):
        await asyncio.gather(
            _pump(reader, far_writer, counted.note),
            _pump(far_reader, writer, lambda chunk: counted.note_answer(len(chunk))),
        )


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
) -> None:
    try:
        while chunk := await reader.read(1 << 18):
            note(chunk)
            writer.write(chunk)
            await writer.drain()
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        with suppress(OSError, RuntimeError):
            writer.close()
