"""SFTP origins: `sftp://host[:port]/absolute/path`; `/~/path` is relative to the user's home.

A connection is made only if the server's host key is known: from the strategy's credentials
(`host_key`: one public key per line; `known_hosts`: lines of such a file), else from
`ingest.sftp_known_hosts`. Files of the local user (~/.ssh, agent) are not used.
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
from orchestrator.origins.checked_sockets import AddressRule, address_rule, connect_socket
from orchestrator.origins.credentials import Credentials
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.origin_address import split_server_address
from orchestrator.origins.reader_types import NotModified, OriginAccess, OriginStream
from orchestrator.settings import Ingest

PORT = 22
_CHUNK_BYTES = 1024**2
"""Larger than one SFTP message, so that asyncssh requests several at the same time."""


class SftpReader:
    """Reads SFTP origins, with one connection for each."""

    def __init__(self, settings: Ingest, is_permitted: AddressRule = is_public) -> None:
        self._settings = settings
        self._is_permitted = address_rule(settings, is_permitted)

    @asynccontextmanager
    async def open(
        self, origin: str, access: OriginAccess
    ) -> AsyncIterator[OriginStream | NotModified]:
        """Open the file. Raises OriginUnavailable: origin_credentials, origin_host_key,
        origin_refused, origin_not_found, origin_timeout, origin_private_address.
        """
        host, port, path = split_server_address(origin, "sftp", PORT)
        options = await asyncio.to_thread(self._options, access.credentials)
        connection = await self._connect(host, port, options)
        try:
            file, size = await self._open_file(connection, path)
            async with aclosing(self._chunks(file)) as chunks:
                yield OriginStream(chunks, size)
        finally:
            connection.abort()

    async def _connect(
        self, host: str, port: int, options: dict[str, Any]
    ) -> asyncssh.SSHClientConnection:
        timeout_s = self._settings.connect_timeout_s
        sock = await connect_socket(host, port, self._is_permitted, timeout_s)
        try:
            with _translate_errors(self._settings.read_timeout_s):
                async with asyncio.timeout(self._settings.read_timeout_s):
                    return await asyncssh.connect(host, port, sock=sock, **options)
        except BaseException:  # also when cancelled, so that the socket is closed
            sock.close()
            raise

    async def _open_file(
        self, connection: asyncssh.SSHClientConnection, path: str
    ) -> tuple[asyncssh.SFTPClientFile, int | None]:
        """Return the open file and its length in bytes."""
        timeout_s = self._settings.read_timeout_s
        path = path.removeprefix("/~/")
        with _translate_errors(timeout_s):
            async with asyncio.timeout(timeout_s):
                client = await connection.start_sftp_client()
                status = await client.stat(path)
                if status.permissions is not None and not stat.S_ISREG(status.permissions):
                    raise _refused("The origin is not a regular file.")
                return await client.open(path, "rb"), status.size

    async def _chunks(self, file: asyncssh.SFTPClientFile) -> AsyncGenerator[bytes, None]:
        while True:
            with _translate_errors(self._settings.read_timeout_s):
                async with asyncio.timeout(self._settings.read_timeout_s):
                    chunk = await file.read(_CHUNK_BYTES)
            if not chunk:
                return
            yield bytes(chunk) if not isinstance(chunk, str) else chunk.encode()

    def _options(self, credentials: Credentials) -> dict[str, Any]:
        """Return the login and the trusted host keys (blocking: reads files, opens keys)."""
        key = credentials["private_key"]
        if not credentials.user or not (credentials.password or key):
            raise _credentials_fault(
                "The credentials of the origin strategy need user, and password or private_key."
            )
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
                raise _host_key_fault("The file ingest.sftp_known_hosts cannot be read.") from error
        if not keys and not text:
            raise _host_key_fault(
                "No host key of the server is known. Add host_key to the credentials, or the "
                "server to ingest.sftp_known_hosts."
            )
        try:
            if keys:
                lines = [line for line in keys.splitlines() if line.strip()]
                return [asyncssh.import_public_key(line) for line in lines], [], []
            return asyncssh.import_known_hosts(text)
        except (asyncssh.KeyImportError, ValueError) as error:
            raise _host_key_fault("The known host keys of the server are malformed.") from error


@contextmanager
def _translate_errors(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise _host_key_fault(
            "The server's host key is not the known one. Ask the owner of the server whether the "
            "key changed."
        ) from error
    except asyncssh.PermissionDenied as error:
        raise _refused(
            "The server refused this user, password or key. Check the credentials."
        ) from error
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
        raise OriginUnavailable(
            "There is no such file on the server. Check the path.",
            retryable=False,
            code="origin_not_found",
        ) from error
    except asyncssh.SFTPPermissionDenied as error:
        raise _refused("This user may not read the file on the server.") from error
    except TimeoutError as error:
        raise OriginUnavailable(
            f"The origin sent nothing for {timeout_s:g} s. Try again later.", code="origin_timeout"
        ) from error
    except (asyncssh.Error, OSError) as error:
        raise OriginUnavailable(
            "The server closed the connection or does not speak SFTP."
        ) from error


def _private_key(text: str, passphrase: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(text, passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        raise _credentials_fault(
            "The private_key of the origin strategy cannot be read. Check it and its passphrase."
        ) from None  # the cause could repeat parts of the key


def _credentials_fault(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_credentials")


def _host_key_fault(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_host_key")


def _refused(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_refused")
