"""No secret of an origin or of a hook is in the log, in an answer or in a plain column, whatever
fault the server has. The servers repeat in their answers what the client sent.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import asyncssh
from pydantic import SecretStr

from orchestrator.log import set_up_logging
from orchestrator.processes.worker import build_hook_workers, build_worker
from orchestrator.settings import Settings
from tests.integration.api.conftest import House, open_house, settings_for
from tests.support import file_servers
from tests.support.file_servers import listening, scripted_ftp, sftp_server, silent
from tests.support.jobs import running
from tests.support.patience import patience
from tests.support.serve_process import free_port
from tests.support.server_fixtures import new_database

USER, PASSWORD = "marked-user", "marked-password"
PAIR = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
ACCESS, SECRET, SESSION = "MARKEDACCESSKEY", "marked-secret-key", "marked-session-token"
MACHINE, MACHINE_SECRET = "MARKEDMACHINEKEY", "marked-machine-secret"
SIGNATURE, BEARER, WRONG = "marked-signature", "marked-bearer", "marked-wrong-password"
FAULTS = ("hung", "401", "403", "404", "500", "truncated", "malformed", "no-http", "redirects",
          "redirects-to-malformed", "redirects-with-login")  # fmt: skip
Case = tuple[str, str]
"""The name of a fault, and the origin that has it."""


class HttpFaults:
    """An HTTP server with one fault for each name of FAULTS, which is the last part of the path."""

    def __init__(self, closed: int) -> None:
        self.port = 0
        self._closed = closed

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # TLS
            writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
            await writer.drain()

    async def _answer(self, head: bytes) -> bytes:
        fault = head.split(b" ")[1].partition(b"?")[0].rsplit(b"/", 1)[-1].decode()
        echo = head.replace(b"\r\n", b" ")
        query = f"?X-Amz-Signature={SIGNATURE}"
        redirects = {
            "redirects": f"http://127.0.0.1:{self._closed}/x{query}",
            "redirects-to-malformed": f"/malformed{query}",
            "redirects-with-login": f"http://{USER}:{PASSWORD}@127.0.0.1:x/{query}",
        }
        match fault:
            case "hung":
                await asyncio.sleep(3600)
                return b""
            case "truncated":
                return b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n\xff\xd8\xff" + echo
            case "malformed":
                return b"HTTP/1.1 200 OK\r\n" + echo + b"\r\nContent-Length: x\r\n\r\n"
            case "no-http":
                return echo + b"\r\n\r\n"
            case "credentials":
                return _answer(b"200 OK", json.dumps([SECRET]).encode())
            case _ if fault in redirects:
                return _answer(b"307 X\r\nLocation: " + redirects[fault].encode(), b"")
        body = b"<Error><Code>X</Code><Message>" + echo + b"</Message></Error>"
        return _answer(fault.encode() + b" " + echo[:200] + b"\r\nX-Echo: " + echo, body)


def _answer(head: bytes, body: bytes) -> bytes:
    length = b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + head + length + body


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """All that a process would write to its log."""
    root, own = logging.getLogger(), logging.getLogger("orchestrator")
    levels, hook, out = (root.level, own.level), sys.excepthook, io.StringIO()
    handler = set_up_logging("debug", out)
    try:
        yield out
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        own.setLevel(levels[1])
        sys.excepthook = hook


def settings(dsn: str, data: Path, s3_port: int) -> Settings:
    """Hooks fail too, and ambient buckets are on the server with the faults."""
    made, signed = settings_for(dsn, data), f"?signature={SIGNATURE}"
    bearer = {"Authorization": SecretStr(f"Bearer {BEARER}")}
    changes = {
        "connect_timeout_s": 2,
        "s3_endpoint": f"http://127.0.0.1:{s3_port}",
        "s3_access_key": SecretStr(MACHINE),
        "s3_secret_key": SecretStr(MACHINE_SECRET),
        "s3_ambient_buckets": ["*"],
        "credentials_links": ["s3://*"],
        "webhook_url": f"http://127.0.0.1:{s3_port}/malformed{signed}",
        "webhook_headers": bearer,
        "purge_url": f"http://127.0.0.1:{s3_port}/500{signed}",
        "purge_headers": bearer,
        "after_tries": 1,
    }
    return made.model_copy(
        update={
            "ingest": made.ingest.model_copy(update=changes),
            "jobs": made.jobs.model_copy(update={"workers": 8, "per_host": 99, "per_customer": 99}),
            "api": made.api.model_copy(update={"sync_ingests": 198, "max_batch": 200}),
        }
    )


class Strategies:
    """The strategies of customer 1, one for each regex."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def add(self, regex: str, kind: str, credentials: Any = None) -> None:
        body = {"regex": regex, "strategy": kind, "credentials": credentials}
        at = "/customers/1/originStrategies"
        reply = await self._house.ask("POST", at, {k: v for k, v in body.items() if v})
        assert reply.status == 201, reply.body


async def http_cases(strategies: Strategies, server: HttpFaults, closed: int) -> list[Case]:
    await strategies.add("^https?://", "basic-http-auth", {"user": USER, "password": PASSWORD})
    at = f"http://127.0.0.1:{server.port}"
    return [
        *((f"http-{fault}", f"{at}/{fault}") for fault in FAULTS),
        ("http-refused", f"http://127.0.0.1:{closed}/x"),
        ("http-no-tls", f"https://127.0.0.1:{server.port}/404"),
    ]


async def s3_cases(strategies: Strategies, server: HttpFaults, closed: int) -> list[Case]:
    keys = {"access_key": ACCESS, "secret_key": SECRET, "session_token": SESSION}
    here = {"endpoint": f"http://127.0.0.1:{server.port}"}
    await strategies.add("^s3://keyed/", "s3", keys | here)
    await strategies.add("^s3://away/", "s3", keys | {"endpoint": f"http://127.0.0.1:{closed}"})
    await strategies.add("^s3://ambient/", "s3-ambient")
    await strategies.add("^s3://public/", "s3-public")
    await strategies.add("^s3://linked/", "s3", "s3://bucket/credentials")
    await strategies.add("^s3://unlinked/", "s3", "s3://bucket/malformed")
    return [
        *((f"{b}-{fault}", f"s3://{b}/{fault}") for b in ("keyed", "ambient") for fault in FAULTS),
        ("s3-refused", "s3://away/x"),
        ("s3-public", "s3://public/403"),
        ("s3-linked", "s3://linked/x"),
        ("s3-unlinked", "s3://unlinked/x"),
    ]


@asynccontextmanager
async def sftp_cases(
    strategies: Strategies, folder: Path, closed: int
) -> AsyncIterator[tuple[list[Case], list[str]]]:
    """Also yields lines of the private keys."""
    for name in ("forbidden", "fails", "breaks", "stalls"):
        (folder / name).write_bytes(b"\xff\xd8\xff" * 9000)

    async def malformed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{USER} {PASSWORD}\r\n".encode() * 2000)

    own = {"user": file_servers.USER, "password": file_servers.PASSWORD}
    other = asyncssh.generate_private_key("ssh-ed25519")
    key = other.export_private_key().decode()
    async with (
        sftp_server(folder) as server,
        listening(silent) as hung,
        listening(malformed) as broken,
    ):
        known = {"host_key": server.host_key}
        wrong_host = {"host_key": other.export_public_key().decode()}
        unreadable = {"private_key": key[:90] + "\n" + key[90:-60]}
        accesses: dict[str, tuple[int, str, dict[str, str]]] = {
            "refused": (closed, "x", own | known),
            "hung": (hung, "x", own | known),
            "password": (server.port, "x", own | known | {"password": WRONG}),
            "key": (server.port, "x", {"user": USER, "private_key": key} | known),
            "unreadable-key": (server.port, "x", {"user": USER} | unreadable | known),
            "host-key": (server.port, "x", own | wrong_host),
            "404": (server.port, "none", own | known),
            "403": (server.port, "forbidden", own | known),
            "500": (server.port, "fails", own | known),
            "truncated": (server.port, "breaks", own | known),
            "stalls": (server.port, "stalls", own | known),
            "malformed": (broken, "x", own | known),
        }
        cases = []
        for name, (port, path, credentials) in accesses.items():
            # The user's home, which a server need not distinguish: the regex sees the difference.
            origin = f"sftp://127.0.0.1:{port}/{path}?{name}"
            await strategies.add(rf"^sftp://.*\?{name}$", "sftp", credentials)
            cases.append((f"sftp-{name}", origin))
        yield cases, key.splitlines()[1:-1]


FTP_FAULTS = {
    "password": {"PASS": f"530 {USER} {PASSWORD}"},
    "403": {"RETR": f"550 {USER} {PASSWORD}"},
    "500": {"RETR": f"451 {USER} {PASSWORD}"},
    "malformed": {"EPSV": f"229 {PASSWORD}", "PASV": f"227 {PASSWORD}"},
    "no-reply": {"USER": f"{PASSWORD}"},
    "truncated": {"SIZE": "213 9000", "RETR": f"150 x\r\n426 {USER} {PASSWORD}"},
}


@asynccontextmanager
async def ftp_cases(strategies: Strategies, closed: int) -> AsyncIterator[list[Case]]:
    async def some_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xd8\xff" * 100)

    await strategies.add("^ftp://", "ftp", {"user": USER, "password": PASSWORD})
    cases = [("ftp-refused", f"ftp://127.0.0.1:{closed}/x")]
    async with AsyncExitStack() as stack:
        hung = await stack.enter_async_context(listening(silent))
        cases.append(("ftp-hung", f"ftp://127.0.0.1:{hung}/x"))
        data = await stack.enter_async_context(listening(some_data))
        for name, answers in FTP_FAULTS.items():
            script = {"EPSV": f"229 (|||{data}|)", **answers}
            server = await stack.enter_async_context(scripted_ftp(**script))
            cases.append((f"ftp-{name}", f"ftp://127.0.0.1:{server.port}/x"))
        yield cases


async def ingest_in_both_ways(house: House, cases: list[Case]) -> list[bytes]:
    """Ingest each origin while the client waits, and by the queue; the bodies of all answers."""

    async def post(name: str, origin: str) -> bytes:
        body = {"id": f"1/1/{name}", "origin": origin}
        reply = await house.ask("POST", "/asset-ingest", body, key=1)
        assert reply.status >= 400, (name, reply.body)
        assert reply.code != "internal", (name, origin)
        return reply.body

    bodies = await asyncio.gather(*(post(*case) for case in cases))
    members = [{"id": f"q-{name}", "space": 1, "origin": origin} for name, origin in cases]
    posted = await house.ask("POST", "/customers/1/queue", {"member": members})
    assert posted.status == 201, posted.body
    jobs = house.services.catalog.jobs
    async with AsyncExitStack() as workers, asyncio.timeout(60 * patience()):
        for worker in (build_worker(house.services), *build_hook_workers(house.services)):
            await workers.enter_async_context(running(worker.run()))
        while any(job.fault is None for job in await jobs.page(1000)):
            await asyncio.sleep(0.05)
    where = posted.headers["location"]
    paths = [where, f"{where}/images", "/jobs", "/customers/1/spaces/1/images"]
    paths += [f"/jobs/{job.id}" for job in await jobs.page(1000)]
    paths += ["/customers/1/originStrategies", "/admin"]
    for path in paths:
        reply = await house.ask("GET", path, key=house.admin)
        assert reply.status == 200, (path, reply.body)
        bodies.append(reply.body)
    return [*bodies, posted.body]


async def all_rows(dsn: str) -> str:
    """Every row of every table, as JSON."""
    connection = await asyncpg.connect(dsn)
    names = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    )
    texts = []
    for (name,) in names:
        rows = await connection.fetch(f'SELECT row_to_json(t)::text FROM "{name}" AS t')
        texts += [row[0] for row in rows]
    await connection.close()
    return "\n".join(texts)


async def test_no_fault_of_an_origin_shows_a_secret(postgres: str, tmp_path: Path) -> None:
    dsn, closed = await new_database(postgres), free_port()
    server = HttpFaults(closed)
    served = tmp_path / "served"
    served.mkdir()
    async with AsyncExitStack() as stack:
        log = stack.enter_context(captured_log())
        server.port = await stack.enter_async_context(listening(server.serve))
        options = settings(dsn, tmp_path / "data", server.port)
        house = await stack.enter_async_context(open_house(options))
        strategies = Strategies(house)
        cases = await s3_cases(strategies, server, closed)
        cases += await http_cases(strategies, server, closed)
        sftp, key_lines = await stack.enter_async_context(sftp_cases(strategies, served, closed))
        cases += [*sftp, *await stack.enter_async_context(ftp_cases(strategies, closed))]
        answers = b"\n".join(await ingest_in_both_ways(house, cases)).decode()
        gc.collect()  # asyncio logs the exceptions of forgotten tasks when they are collected
    rows, lines = await all_rows(dsn), log.getvalue()
    secrets = [PASSWORD, PAIR, ACCESS, SECRET, SESSION, MACHINE, MACHINE_SECRET, SIGNATURE, BEARER]
    secrets += [WRONG, file_servers.PASSWORD, "correct h", house.admin, house.keys[1], *key_lines]
    for name, text in (("log", lines), ("answers", answers), ("database", rows)):
        found = {secret: _around(text, secret) for secret in secrets if secret in text}
        assert found == {}, name
    assert lines.count('"event": "request failed"') >= len(cases) // 2
    assert lines.count('"event": "hook failed"') >= len(cases) // 2
    for case, _ in cases:
        assert f"q-{case}" in rows


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 300) : at + 100]
