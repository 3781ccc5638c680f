"""FTP origins: `ftp://host[:port]/path`, the path below where the login begins (`%2F` first: from
the root), always passive.

Data connections go to the very address the commands go to, whatever address the server names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

import aioftp

from orchestrator.errors import OriginUnavailable
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.download import CHUNK_BYTES
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.reader_types import Access, Opened, Unchanged
from orchestrator.origins.sockets import (
    Permitted,
    connected_socket,
    permitted_by,
    server_and_path,
)
from orchestrator.settings import Ingest

PORT = 21
_ANONYMOUS = ("anonymous", "anonymous@")


class FtpReader:
    """Reads FTP origins, one connection each."""

    def __init__(self, settings: Ingest, permitted: Permitted = is_public) -> None:
        self._settings = settings
        self._permitted = permitted_by(settings, permitted)

    @asynccontextmanager
    async def open(self, origin: str, access: Access) -> AsyncIterator[Opened | Unchanged]:
        """Read the file. Raises OriginUnavailable: origin_refused, origin_not_found,
        origin_timeout, origin_private_address.
        """
        host, port, path = server_and_path(origin, "ftp", PORT)
        path = path.removeprefix("/")
        client = _Client(self._settings, self._permitted)
        try:
            with _translated(self._settings.read_timeout_s):
                await client.connect(host, port)
                await client.login(*_login(access.credentials))
                size = await _size(client, path)
                stream = await client.get_stream(f"RETR {path}", "1xx")
            async with aclosing(self._chunks(stream)) as chunks:
                yield Opened(chunks, size)
        finally:
            client.close()

    async def _chunks(
        self, stream: aioftp.DataConnectionThrottleStreamIO
    ) -> AsyncGenerator[bytes, None]:
        while True:
            with _translated(self._settings.read_timeout_s):
                chunk = await stream.read(CHUNK_BYTES)
                if not chunk:
                    await stream.finish()  # the server says whether that was all
                    return
            yield chunk


class _Client(aioftp.Client):
    """aioftp's client with sockets of our own: judged, and all to one address."""

    def __init__(self, settings: Ingest, permitted: Permitted) -> None:
        super().__init__(
            socket_timeout=settings.read_timeout_s,
            connection_timeout=settings.connect_timeout_s,
        )
        self._connect_timeout_s = settings.connect_timeout_s
        self._permitted = permitted
        self._peer = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        one = await connected_socket(
            self._peer or host, port, self._permitted, self._connect_timeout_s
        )
        self._peer = self._peer or str(one.getpeername()[0])
        reader, writer = await asyncio.open_connection(sock=one)
        self._writers.append(writer)
        return reader, writer

    def close(self) -> None:
        """Close the connections, data that a refused command left open included."""
        super().close()
        for writer in self._writers:
            writer.close()


async def _size(client: aioftp.Client, path: str) -> int | None:
    """The file's length in bytes, from servers that say."""
    await client.command("TYPE I", "200")
    with suppress(aioftp.StatusCodeError, ValueError):
        _, lines = await client.command(f"SIZE {path}", "213")
        return int(lines[0])
    return None


def _login(credentials: Credentials) -> tuple[str, str]:
    pair = (credentials.user, credentials.password) if credentials.user else _ANONYMOUS
    if any(character in text for text in pair for character in "\r\n\0"):
        raise OriginUnavailable(
            "The user or password of the origin strategy has control characters.",
            retryable=False,
            code="origin_credentials",
        )
    return pair


@contextmanager
def _translated(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except aioftp.StatusCodeError as error:
        raise _meaning(str(error.received_codes[-1])) from error
    except TimeoutError as error:
        raise OriginUnavailable(
            f"The origin sent nothing for {timeout_s:g} s.", code="origin_timeout"
        ) from error
    except (aioftp.AIOFTPException, OSError, ValueError, IndexError) as error:
        raise OriginUnavailable("The FTP server broke off or does not speak FTP.") from error


def _meaning(code: str) -> OriginUnavailable:
    match code:
        case "530" | "331" | "332" | "532":
            return OriginUnavailable(
                "The server refuses this user or password.",
                retryable=False,
                code="origin_refused",
            )
        case "550" | "553" | "450":
            return OriginUnavailable(
                "There is no such file on the server, or it may not be read.",
                retryable=code == "450",
                code="origin_not_found",
            )
        case _:
            return OriginUnavailable(
                f"The FTP server answered {code[:3]}.", retryable=code.startswith("4")
            )
