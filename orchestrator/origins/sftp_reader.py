"""SFTP origins: `sftp://host[:port]/absolute/path` (`/~/path`: below the user's home).

A server is believed only when it has a host key that is known of it: from the strategy's
credentials (`host_key`: one public key a line; `known_hosts`: lines of such a file), else from
`ingest.sftp_known_hosts`. Nothing of the user's own (~/.ssh, agent) is used.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from orchestrator.errors import OriginUnavailable
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.reader_types import Access, Opened, Unchanged
from orchestrator.origins.sockets import (
    Permitted,
    connected_socket,
    permitted_by,
    server_and_path,
)
from orchestrator.settings import Ingest

PORT = 22
_CHUNK_BYTES = 1024**2
"""Larger than one SFTP message, so that several are under way at once."""


class SftpReader:
    """Reads SFTP origins, one connection each."""

    def __init__(self, settings: Ingest, permitted: Permitted = is_public) -> None:
        self._settings = settings
        self._permitted = permitted_by(settings, permitted)

    @asynccontextmanager
    async def open(self, origin: str, access: Access) -> AsyncIterator[Opened | Unchanged]:
        """Read the file. Raises OriginUnavailable: origin_credentials, origin_host_key,
        origin_refused, origin_not_found, origin_timeout, origin_private_address.
        """
        host, port, path = server_and_path(origin, "sftp", PORT)
        options = await asyncio.to_thread(self._options, access.credentials)
        connection = await self._connected(host, port, options)
        try:
            file, size = await self._file(connection, path)
            async with aclosing(self._chunks(file)) as chunks:
                yield Opened(chunks, size)
        finally:
            connection.abort()

    async def _connected(
        self, host: str, port: int, options: dict[str, Any]
    ) -> asyncssh.SSHClientConnection:
        timeout_s = self._settings.connect_timeout_s
        one = await connected_socket(host, port, self._permitted, timeout_s)
        try:
            with _translated(self._settings.read_timeout_s):
                async with asyncio.timeout(self._settings.read_timeout_s):
                    return await asyncssh.connect(host, port, sock=one, **options)
        except BaseException:
            one.close()
            raise

    async def _file(
        self, connection: asyncssh.SSHClientConnection, path: str
    ) -> tuple[asyncssh.SFTPClientFile, int | None]:
        """The open file and its length in bytes."""
        timeout_s = self._settings.read_timeout_s
        path = path.removeprefix("/~/")
        with _translated(timeout_s):
            async with asyncio.timeout(timeout_s):
                client = await connection.start_sftp_client()
                status = await client.stat(path)
                if status.permissions is not None and not stat.S_ISREG(status.permissions):
                    raise _refused("The origin is not an ordinary file.")
                return await client.open(path, "rb"), status.size

    async def _chunks(self, file: asyncssh.SFTPClientFile) -> AsyncGenerator[bytes, None]:
        while True:
            with _translated(self._settings.read_timeout_s):
                async with asyncio.timeout(self._settings.read_timeout_s):
                    chunk = await file.read(_CHUNK_BYTES)
            if not chunk:
                return
            yield bytes(chunk) if not isinstance(chunk, str) else chunk.encode()

    def _options(self, credentials: Credentials) -> dict[str, Any]:
        """How to log in, and whom to believe (blocking: reads files, opens keys)."""
        key = credentials["private_key"]
        if not credentials.user or not (credentials.password or key):
            raise _unusable("The origin strategy has no user and password or private_key.")
        return {
            "username": credentials.user,
            "password": credentials.password or None,
            "client_keys": [_private_key(key, credentials["passphrase"])] if key else None,
            "known_hosts": self._known_hosts(credentials),
            "config": None,
            "agent_path": None,
            "gss_host": None,
        }

    def _known_hosts(self, credentials: Credentials) -> Any:
        keys, text = credentials["host_key"], credentials["known_hosts"]
        if not keys and not text and self._settings.sftp_known_hosts:
            try:
                text = Path(self._settings.sftp_known_hosts).read_text()
            except OSError as error:
                raise _untrusted("The file ingest.sftp_known_hosts cannot be read.") from error
        if not keys and not text:
            raise _untrusted(
                "No host key of this server is known: give one as host_key with the credentials, "
                "or in ingest.sftp_known_hosts."
            )
        try:
            if keys:
                lines = [line for line in keys.splitlines() if line.strip()]
                return [asyncssh.import_public_key(line) for line in lines], [], []
            return asyncssh.import_known_hosts(text)
        except (asyncssh.KeyImportError, ValueError) as error:
            raise _untrusted("The known host keys of this server cannot be read.") from error


@contextmanager
def _translated(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise _untrusted(
            "The server's host key is not the one known of it: it was changed, or this is another "
            "server."
        ) from error
    except asyncssh.PermissionDenied as error:
        raise _refused("The server refuses this user, password or key.") from error
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
        raise OriginUnavailable(
            "There is no such file on the server.", retryable=False, code="origin_not_found"
        ) from error
    except asyncssh.SFTPPermissionDenied as error:
        raise _refused("The server refuses access to the file.") from error
    except TimeoutError as error:
        raise OriginUnavailable(
            f"The origin sent nothing for {timeout_s:g} s.", code="origin_timeout"
        ) from error
    except (asyncssh.Error, OSError) as error:
        raise OriginUnavailable("The SFTP server broke off or does not speak SFTP.") from error


def _private_key(text: str, passphrase: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(text, passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        # The cause could repeat parts of the key.
        raise _unusable("The private_key of the origin strategy cannot be read.") from None


def _unusable(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_credentials")


def _untrusted(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_host_key")


def _refused(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_refused")
