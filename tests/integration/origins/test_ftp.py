"""FTP origins on a real server and on scripted ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.settings import Database
from tests.integration.origins.conftest import (
    HTML,
    MAX_BYTES,
    PICTURE,
    CustomerOrigins,
    customer_origins,
)
from tests.support.file_servers import (
    PASSWORD,
    USER,
    ftp_server,
    listening,
    scripted_ftp,
    silent,
)

LOGIN = {"user": USER, "password": PASSWORD}


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    folder = tmp_path / "served"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "bäume.jpg").write_bytes(PICTURE)
    (folder / "page.jpg").write_bytes(HTML)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "large.jpg").write_bytes(b"\xff" * (MAX_BYTES + 1))
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "picture.jpg").write_bytes(PICTURE)
    async with ftp_server(folder, anonymous=tmp_path / "open") as port:
        yield port


async def test_a_file_is_fetched_by_password(origins: CustomerOrigins, port: int) -> None:
    await origins.add("^ftp://", "ftp", LOGIN)
    fetched = await origins.fetch(f"ftp://127.0.0.1:{port}/a%20b/b%C3%A4ume.jpg")
    assert fetched.path.read_bytes() == PICTURE
    assert fetched.sha256 == hashlib.sha256(PICTURE).hexdigest()


async def test_a_file_is_fetched_anonymously_with_and_without_a_strategy(
    origins: CustomerOrigins, port: int
) -> None:
    origin = f"ftp://127.0.0.1:{port}/picture.jpg"
    assert (await origins.fetch(origin)).bytes == len(PICTURE)
    await origins.add("^ftp://", "ftp")
    assert (await origins.fetch(origin)).bytes == len(PICTURE)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("none.jpg", "origin_not_found"),
        ("page.jpg", "not_an_image"),
        ("empty.jpg", "not_an_image"),
        ("large.jpg", "too_large"),
        ("a.jpg%0D%0ADELE%20page.jpg", "invalid_input"),
    ],
)
async def test_each_failure_has_its_code(
    origins: CustomerOrigins, port: int, path: str, code: str
) -> None:
    await origins.add("^ftp://", "ftp", LOGIN)
    assert await origins.fault_code(f"ftp://127.0.0.1:{port}/{path}") == code


async def test_a_wrong_password_is_refused(origins: CustomerOrigins, port: int) -> None:
    await origins.add("^ftp://", "ftp", {**LOGIN, "password": "wrong"})
    assert await origins.fault_code(f"ftp://127.0.0.1:{port}/page.jpg") == "origin_refused"


async def test_a_silent_server_and_a_missing_one_have_different_codes(
    origins: CustomerOrigins,
) -> None:
    async with listening(silent) as port:
        assert await origins.fault_code(f"ftp://127.0.0.1:{port}/a.jpg") == "origin_timeout"
    assert await origins.fault_code("ftp://127.0.0.1:1/a.jpg") == "origin_unavailable"


async def test_stalled_data_times_out_and_a_short_file_is_unavailable(
    origins: CustomerOrigins,
) -> None:
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PICTURE[:1000])
        await writer.drain()
        await asyncio.sleep(3600)

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PICTURE[:1000])

    for serve, code in ((stalls, "origin_timeout"), (short, "origin_unavailable")):
        async with (
            listening(serve) as data,
            scripted_ftp(EPSV=f"229 (|||{data}|)", RETR="150 coming", SIZE="213 5000") as script,
        ):
            script.answers["RETR"] = "150 coming\r\n226 done"
            assert await origins.fault_code(f"ftp://127.0.0.1:{script.port}/a.jpg") == code


async def test_no_connection_is_made_to_the_data_address_a_server_names(
    origins: CustomerOrigins,
) -> None:
    reached: list[str] = []

    async def bystander(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("bystander")

    async with listening(bystander) as port:  # on 127.0.0.1; the server names 127.0.0.9
        pasv = f"227 (127,0,0,9,{port >> 8},{port & 255})"
        async with scripted_ftp(PASV=pasv, RETR="150 coming\r\n226 done") as script:
            await origins.fault_code(f"ftp://127.0.0.1:{script.port}/a.jpg")
    assert "PASV" in script.commands
    assert reached == ["bystander"]  # the named port, on the server's own address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0"])
async def test_a_private_address_is_refused(
    database: Database, tmp_path: Path, port: int, host: str
) -> None:
    async with customer_origins(database, tmp_path, allow_private_addresses=False) as origins:
        assert await origins.fault_code(f"ftp://{host}:{port}/a.jpg") == "origin_private_address"
