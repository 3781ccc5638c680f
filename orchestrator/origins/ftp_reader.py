"""FTP origins: `ftp://host[:port]/path`. The path is relative to the login folder; a path that
begins with `%2F` is relative to the root. Transfers are always passive.

Data connections go to the address of the command connection, whatever address the server names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

import aioftp

from orchestrator.errors import OriginUnavailable
from orchestrator.origins.checked_sockets import AddressRule, address_rule, connect_socket
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.download import CHUNK_BYTES
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.origin_address import split_server_address
from orchestrator.origins.reader_types import NotModified, OriginAccess, OriginStream
from orchestrator.settings import Ingest

PORT = 21
_ANONYMOUS = ("anonymous", "anonymous@")


class FtpReader:
    """Reads FTP origins, with one connection for each."""

    def __init__(self, settings: Ingest, is_permitted: AddressRule = is_public) -> None:
        self._settings = settings
        self._is_permitted = address_rule(settings, is_permitted)

    @asynccontextmanager
    async def open(
        self, origin: str, access: OriginAccess
    ) -> AsyncIterator[OriginStream | NotModified]:
        """Open the file. Raises OriginUnavailable: origin_refused, origin_not_found,
        origin_timeout, origin_private_address.
        """
        host, port, path = split_server_address(origin, "ftp", PORT)
        path = path.removeprefix("/")
        client = _Client(self._settings, self._is_permitted)
        try:
            with _translate_errors(self._settings.read_timeout_s):
                await client.connect(host, port)
                await client.login(*_user_and_password(access.credentials))
                size = await _size(client, path)
                stream = await client.get_stream(f"RETR {path}", "1xx")
            async with aclosing(self._chunks(stream)) as chunks:
                yield OriginStream(chunks, size)
        finally:
            client.close()

    async def _chunks(
        self, stream: aioftp.DataConnectionThrottleStreamIO
    ) -> AsyncGenerator[bytes, None]:
        while True:
            with _translate_errors(self._settings.read_timeout_s):
                chunk = await stream.read(CHUNK_BYTES)
                if not chunk:
                    await stream.finish()  # the server's reply shows whether the file is complete
                    return
            yield chunk


class _Client(aioftp.Client):
    """aioftp's client with sockets whose address is checked, all connected to one address."""

    def __init__(self, settings: Ingest, is_permitted: AddressRule) -> None:
        super().__init__(
            socket_timeout=settings.read_timeout_s,
            connection_timeout=settings.connect_timeout_s,
        )
        self._connect_timeout_s = settings.connect_timeout_s
        self._is_permitted = is_permitted
        self._peer = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = await connect_socket(
            self._peer or host, port, self._is_permitted, self._connect_timeout_s
        )
        self._peer = self._peer or str(connection.getpeername()[0])
        reader, writer = await asyncio.open_connection(sock=connection)
        self._writers.append(writer)
        return reader, writer

    def close(self) -> None:
        """Close all connections, also data connections that a refused command left open."""
        super().close()
        for writer in self._writers:
            writer.close()


async def _size(client: aioftp.Client, path: str) -> int | None:
    """Return the file's length in bytes; None if the server does not report it."""
    await client.command("TYPE I", "200")
    with suppress(aioftp.StatusCodeError, ValueError):
        _, lines = await client.command(f"SIZE {path}", "213")
        return int(lines[0])
    return None


def _user_and_password(credentials: Credentials) -> tuple[str, str]:
    pair = (credentials.user, credentials.password) if credentials.user else _ANONYMOUS
    if any(character in text for text in pair for character in "\r\n\0"):
        raise OriginUnavailable(
            "The user or password of the origin strategy has control characters.",
            retryable=False,
            code="origin_credentials",
        )
    return pair


@contextmanager
def _translate_errors(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except aioftp.StatusCodeError as error:
        raise _fault_of_reply(str(error.received_codes[-1])) from error
    except TimeoutError as error:
        raise OriginUnavailable(
            f"The origin sent nothing for {timeout_s:g} s. Try again later.", code="origin_timeout"
        ) from error
    except (aioftp.AIOFTPException, OSError, ValueError, IndexError) as error:
        raise OriginUnavailable(
            "The server closed the connection or does not speak FTP."
        ) from error


def _fault_of_reply(code: str) -> OriginUnavailable:
    match code:
        case "530" | "331" | "332" | "532":
            return OriginUnavailable(
                "The server refused this user or password. Check the credentials.",
                retryable=False,
                code="origin_refused",
            )
        case "550" | "553" | "450":
            return OriginUnavailable(
                "There is no such file on the server, or this user may not read it.",
                retryable=code == "450",
                code="origin_not_found",
            )
        case _:
            return OriginUnavailable(
                f"The FTP server answered {code[:3]}.", retryable=code.startswith("4")
            )
