"""SFTP and FTP servers on loopback that serve one folder each, and servers that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aioftp
import asyncssh

USER, PASSWORD = "archivist", "correct hörse"
FOREVER_S = 3600


@dataclass
class SftpServer:
    """A running server; `host_key` and `user_key` have the format of key files."""

    port: int
    host_key: str
    user_key: str

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"sftp://{host}:{self.port}/{path}"


class _Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


@asynccontextmanager
async def sftp_server(folder: Path, port: int = 0) -> AsyncIterator[SftpServer]:
    """Serve the folder to USER, by PASSWORD or key. A file whose name has `stalls` never ends;
    `forbidden` and `fails` are refused with the user's login in the message, `breaks` ends with the
    connection.
    """
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    authorized = asyncssh.import_authorized_keys(user_key.export_public_key().decode())

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=str(folder).encode())
            self._connection = channel.get_connection()

        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            if b"forbidden" in path:
                raise asyncssh.SFTPPermissionDenied(f"{USER} {PASSWORD}")
            if b"fails" in path:
                raise asyncssh.SFTPFailure(f"{USER} {PASSWORD}")
            return super().open(path, pflags, attrs)

        async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
            if "stalls" in str(file_obj.name) and offset > 0:
                try:
                    await asyncio.sleep(FOREVER_S)
                finally:
                    file_obj.close()
            if "breaks" in str(file_obj.name):
                self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, f"{USER} {PASSWORD}")
            file_obj.seek(offset)
            return bytes(file_obj.read(size))

    listener = await asyncssh.listen(
        "127.0.0.1",
        port,
        server_factory=_Server,
        authorized_client_keys=authorized,
        server_host_keys=[host_key],
        sftp_factory=Files,
    )
    try:
        yield SftpServer(
            listener.get_port(),
            host_key.export_public_key().decode().strip(),
            user_key.export_private_key().decode(),
        )
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def ftp_server(folder: Path, *, anonymous: Path | None = None) -> AsyncIterator[int]:
    """Serve `folder` to USER by PASSWORD, and `anonymous` to anonymous users; yields the port."""
    users = [aioftp.User(USER, PASSWORD, base_path=folder)]
    if anonymous is not None:
        users.append(aioftp.User(base_path=anonymous))
    server = aioftp.Server(users)
    await server.start("127.0.0.1", 0)
    try:
        yield server.server_port
    finally:
        await server.close()


@dataclass
class ScriptedFtp:
    """Answers each FTP command from a table, and records the commands."""

    port: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                command = line.decode().strip()
                self.commands.append(command)
                writer.write(f"{self.answers.get(command.split(' ')[0], '502 no')}\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted_ftp(**answers: str) -> AsyncIterator[ScriptedFtp]:
    """Run a scripted server on a free port."""
    script = ScriptedFtp(
        answers={"USER": "331 password", "PASS": "230 ok", "TYPE": "200 ok", **answers}
    )
    async with listening(script.serve) as port:
        script.port = port
        yield script


@asynccontextmanager
async def listening(serve: Any) -> AsyncIterator[int]:
    """Serve each connection with `serve(reader, writer)` on a free port; the end cuts them all."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept the connection and send nothing."""
    await asyncio.sleep(FOREVER_S)
