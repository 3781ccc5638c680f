"""Four origins that serve the same folder: HTTP with basic authentication, a private S3 bucket,
SFTP with a password, and FTP. Real servers on loopback, in a background thread.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aioftp
import asyncssh
from aiohttp import web

from tests.support.serve_process import free_port
from tests.support.weed import CREDENTIALS, s3_client

KINDS = ("http", "s3", "sftp", "ftp")
USER, PASSWORD = "archivist", "correct horse"
ORIGINALS = "originals"
"""The bucket with the files."""


@dataclass
class FourOrigins:
    """The addresses of the files, and the strategies that read them."""

    http_port: int
    sftp_port: int
    ftp_port: int
    s3_endpoint: str
    host_key: str = ""
    """The SFTP server's public key in the format of known_hosts (`ssh-ed25519 AAAA...`)."""
    requests: dict[str, int] = field(default_factory=dict)
    """The number of HTTP requests for each file."""

    def origin(self, kind: str, name: str) -> str:
        """Return the address of a file."""
        return {
            "http": f"http://127.0.0.1:{self.http_port}/{name}",
            "s3": f"s3://us-east-1/{ORIGINALS}/{name}",
            "sftp": f"sftp://127.0.0.1:{self.sftp_port}/{name}",
            "ftp": f"ftp://127.0.0.1:{self.ftp_port}/{name}",
        }[kind]

    def strategies(self) -> list[dict[str, Any]]:
        """Return the request bodies that create the origin strategies."""
        login = {"user": USER, "password": PASSWORD}
        access, secret = CREDENTIALS
        keys = {"access_key": access, "secret_key": secret, "endpoint": self.s3_endpoint}
        return [
            _strategy(rf"^http://127\.0\.0\.1:{self.http_port}/", "basic-http-auth", login),
            _strategy(rf"^s3://us-east-1/{ORIGINALS}/", "s3", keys),
            _strategy(r"^sftp://", "sftp", {**login, "host_key": self.host_key}),
            _strategy(r"^ftp://", "ftp", login),
        ]


def _strategy(regex: str, strategy: str, credentials: Mapping[str, str]) -> dict[str, Any]:
    return {"regex": regex, "strategy": strategy, "credentials": dict(credentials)}


@contextmanager
def four_origins(folder: Path, s3_endpoint: str) -> Iterator[FourOrigins]:
    """Serve the files of `folder`, and put them into a bucket of the S3 server."""
    _fill_bucket(folder, s3_endpoint)
    origins = FourOrigins(free_port(), free_port(), free_port(), s3_endpoint)
    ready, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            async with AsyncExitStack() as stack:
                await _http(stack, folder, origins)
                await _sftp(stack, folder, origins)
                await _ftp(stack, folder, origins)
                ready.set()
                await stop.wait()
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(30), "the origins did not start"
        if failed:
            raise failed[0]
        yield origins
    finally:
        if not failed:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)


def _fill_bucket(folder: Path, endpoint: str) -> None:
    client = s3_client(endpoint)
    try:
        client.create_bucket(Bucket=ORIGINALS)
        for path in sorted(folder.iterdir()):
            client.put_object(Bucket=ORIGINALS, Key=path.name, Body=path.read_bytes())
    finally:
        client.close()


async def _http(stack: AsyncExitStack, folder: Path, origins: FourOrigins) -> None:
    authorization = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != authorization:
            return web.Response(status=401)
        name = request.match_info["name"]
        origins.requests[name] = origins.requests.get(name, 0) + 1
        path = folder / name
        if not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path)

    app = web.Application()
    app.router.add_get("/{name}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", origins.http_port).start()


async def _sftp(stack: AsyncExitStack, folder: Path, origins: FourOrigins) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    origins.host_key = key.export_public_key().decode().strip()

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=str(folder).encode())

    listener = await asyncssh.listen(
        "127.0.0.1",
        origins.sftp_port,
        server_factory=Server,
        server_host_keys=[key],
        sftp_factory=Files,
    )
    stack.push_async_callback(listener.wait_closed)
    stack.callback(listener.close)


async def _ftp(stack: AsyncExitStack, folder: Path, origins: FourOrigins) -> None:
    user = aioftp.User(USER, PASSWORD, base_path=folder, permissions=[aioftp.Permission("/")])
    server = aioftp.Server([user])
    await server.start("127.0.0.1", origins.ftp_port)
    stack.push_async_callback(server.close)
