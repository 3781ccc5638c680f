"""FTP origins on a real server, and on one that lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.settings import Database
from tests.integration.origins.conftest import HTML, MAX_BYTES, PICTURE, Desk, a_desk
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
    async with ftp_server(folder, anonymous=tmp_path / "open") as one:
        yield one


async def test_a_file_is_fetched_by_password(desk: Desk, port: int) -> None:
    await desk.add("^ftp://", "ftp", LOGIN)
    fetched = await desk.fetch(f"ftp://127.0.0.1:{port}/a%20b/b%C3%A4ume.jpg")
    assert fetched.path.read_bytes() == PICTURE
    assert fetched.sha256 == hashlib.sha256(PICTURE).hexdigest()


async def test_a_file_is_fetched_anonymously_with_and_without_a_strategy(
    desk: Desk, port: int
) -> None:
    origin = f"ftp://127.0.0.1:{port}/picture.jpg"
    assert (await desk.fetch(origin)).bytes == len(PICTURE)
    await desk.add("^ftp://", "ftp")
    assert (await desk.fetch(origin)).bytes == len(PICTURE)


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
async def test_each_way_of_failing_has_its_code(
    desk: Desk, port: int, path: str, code: str
) -> None:
    await desk.add("^ftp://", "ftp", LOGIN)
    assert await desk.code(f"ftp://127.0.0.1:{port}/{path}") == code


async def test_a_wrong_password_is_refused(desk: Desk, port: int) -> None:
    await desk.add("^ftp://", "ftp", {**LOGIN, "password": "wrong"})
    assert await desk.code(f"ftp://127.0.0.1:{port}/page.jpg") == "origin_refused"


async def test_a_server_that_says_nothing_and_one_that_is_not_there_are_told_apart(
    desk: Desk,
) -> None:
    async with listening(silent) as port:
        assert await desk.code(f"ftp://127.0.0.1:{port}/a.jpg") == "origin_timeout"
    assert await desk.code("ftp://127.0.0.1:1/a.jpg") == "origin_unavailable"


async def test_data_that_stalls_times_out_and_data_cut_short_is_no_picture(desk: Desk) -> None:
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
            assert await desk.code(f"ftp://127.0.0.1:{script.port}/a.jpg") == code


async def test_the_address_a_server_names_for_its_data_is_never_connected_to(desk: Desk) -> None:
    reached: list[str] = []

    async def bystander(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("bystander")

    async with listening(bystander) as port:  # at 127.0.0.1; the server says 127.0.0.9
        pasv = f"227 (127,0,0,9,{port >> 8},{port & 255})"
        async with scripted_ftp(PASV=pasv, RETR="150 coming\r\n226 done") as script:
            await desk.code(f"ftp://127.0.0.1:{script.port}/a.jpg")
    assert "PASV" in script.heard
    assert reached == ["bystander"]  # the port, but of the server's own address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0"])
async def test_a_private_address_is_refused(
    database: Database, tmp_path: Path, port: int, host: str
) -> None:
    async with a_desk(database, tmp_path, allow_private_addresses=False) as desk:
        assert await desk.code(f"ftp://{host}:{port}/a.jpg") == "origin_private_address"
