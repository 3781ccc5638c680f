"""A real HTTP origin on loopback; each kind of failure has its own path.

It writes HTTP to raw streams, because server libraries refuse to send most of these answers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

FOREVER_S = 3600


@dataclass
class OriginServer:
    """Serves `files` by path; the other paths are the failures of FAULTS."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    media_types: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    logins: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Paths that need a user and password (Basic, UTF-8)."""
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Return the address of `path` on this server."""
        return f"http://{host}:{self.port}{path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection."""
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        self.requests.append(path)
        self.headers.append(
            {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        )
        if path in self.logins and self.headers[-1].get("authorization") != basic(
            *self.logins[path]
        ):
            send_head(writer, 401, {"WWW-Authenticate": 'Basic realm="x", charset="UTF-8"'}, 0)
        elif path in self.files and self.headers[-1].get("if-none-match") == etag_of(
            self.files[path]
        ):
            send_head(writer, 304, {"ETag": etag_of(self.files[path])}, None)
        elif path in self.files:
            body = self.files[path]
            media_type = self.media_types.get(path, "application/octet-stream")
            send_head(writer, 200, {"ETag": etag_of(body), "Content-Type": media_type}, len(body))
            writer.write(body)
        elif path in self.redirects:
            send_head(writer, 302, {"Location": self.redirects[path]}, 0)
        elif path.startswith("/hops/"):
            hops = int(path.removeprefix("/hops/"))
            send_head(writer, 301, {"Location": f"{hops - 1}" if hops else "/picture"}, 0)
        elif path.startswith("/status/"):
            send_head(writer, int(path.removeprefix("/status/")), {}, 0)
        else:
            await FAULTS.get(path, not_found)(writer)
        await writer.drain()


def basic(user: str, password: str) -> str:
    """Return the Authorization header of this login."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def etag_of(body: bytes) -> str:
    """Return the strong ETag of these bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def send_head(
    writer: asyncio.StreamWriter, status: int, headers: dict[str, str], length: int | None
) -> None:
    """Write the status line and headers of the last answer on this connection."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def not_found(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 404, {}, 0)


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(FOREVER_S)


async def stall(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {}, 10_000)
    writer.write(b"x" * 100)
    await writer.drain()
    await asyncio.sleep(FOREVER_S)


async def drip(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {}, 10_000)
    for _ in range(10_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def huge_announced(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {}, 10**12)
    await writer.drain()
    await asyncio.sleep(FOREVER_S)


async def huge(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {"Transfer-Encoding": "chunked"}, None)
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    while True:
        writer.write(block)
        await writer.drain()


async def html(writer: asyncio.StreamWriter) -> None:
    body = b"\n  <!DOCTYPE html><html><body>Please log in</body></html>"
    send_head(writer, 200, {"Content-Type": "image/jpeg"}, len(body))
    writer.write(body)


async def json(writer: asyncio.StreamWriter) -> None:
    body = b'{"error": "no such picture"}'
    send_head(writer, 200, {"Content-Type": "image/jpeg"}, len(body))
    writer.write(body)


async def empty(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {}, 0)


async def truncated(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {}, 2000)
    writer.write(b"\xff\xd8\xff" + b"x" * 997)


async def chunks_without_end(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {"Transfer-Encoding": "chunked"}, None)
    writer.write(b"4\r\n\xff\xd8\xff\xe0\r\n")


async def compressed(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {"Content-Encoding": "gzip"}, 4)
    writer.write(b"\x1f\x8b\x08\x00")


async def hang_up(writer: asyncio.StreamWriter) -> None:
    return


async def garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")


async def two_lengths(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 200, {"Content-Length": "5"}, 7)
    writer.write(b"1234567")


async def redirect_nowhere(writer: asyncio.StreamWriter) -> None:
    send_head(writer, 302, {}, 0)


FAULTS: dict[str, Fault] = {
    "/hang": hang,
    "/stall": stall,
    "/drip": drip,
    "/huge-announced": huge_announced,
    "/huge": huge,
    "/html": html,
    "/json": json,
    "/empty": empty,
    "/truncated": truncated,
    "/chunks-without-end": chunks_without_end,
    "/compressed": compressed,
    "/hang-up": hang_up,
    "/garbage": garbage,
    "/two-lengths": two_lengths,
    "/redirect-nowhere": redirect_nowhere,
}


@asynccontextmanager
async def origin_server() -> AsyncIterator[OriginServer]:
    """Run the origin on a free port of loopback; the end of the block cuts open connections."""
    origin = OriginServer()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await origin.answer(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
