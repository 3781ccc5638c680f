"""SFTP origins on a real server: by password, by key, and each failure."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
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
    SftpServer,
    listening,
    sftp_server,
    silent,
)

LOGIN = {"user": USER, "password": PASSWORD}


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "picture.jpg").write_bytes(PICTURE)
    (folder / "stalls.jpg").write_bytes(PICTURE[:300] * 5000)
    (folder / "page.jpg").write_bytes(HTML)
    (folder / "large.jpg").write_bytes(b"\xff" * (MAX_BYTES + 1))
    return folder


@pytest.fixture
async def server(served: Path) -> AsyncIterator[SftpServer]:
    async with sftp_server(served) as server:
        yield server


@pytest.mark.parametrize("path", ["a%20b/picture.jpg", "a b/picture.jpg", "~/a%20b/picture.jpg"])
async def test_a_file_is_fetched_by_password(
    origins: CustomerOrigins, server: SftpServer, path: str
) -> None:
    await origins.add("^sftp://", "sftp", {**LOGIN, "host_key": server.host_key})
    fetched = await origins.fetch(server.url(path))
    assert fetched.path.read_bytes() == PICTURE
    assert fetched.sha256 == fetched.fingerprint == hashlib.sha256(PICTURE).hexdigest()


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
async def test_a_file_is_fetched_by_key(
    origins: CustomerOrigins, server: SftpServer, passphrase: str
) -> None:
    key = asyncssh.import_private_key(server.user_key)
    text = key.export_private_key("pkcs8-pem", passphrase or None).decode()
    login = {"user": USER, "private_key": text, "passphrase": passphrase}
    await origins.add("^sftp://", "sftp", {**login, "host_key": server.host_key})
    assert (await origins.fetch(server.url("a%20b/picture.jpg"))).bytes == len(PICTURE)


async def test_the_host_key_may_be_in_known_hosts(
    origins: CustomerOrigins, server: SftpServer, database: Database, tmp_path: Path
) -> None:
    line = f"[127.0.0.1]:{server.port} {server.host_key}\n"
    await origins.add("one", "sftp", {**LOGIN, "known_hosts": line})
    await origins.add("two", "sftp", LOGIN)
    (tmp_path / "served" / "one.jpg").write_bytes(PICTURE)
    (tmp_path / "served" / "two.jpg").write_bytes(PICTURE)
    assert (await origins.fetch(server.url("one.jpg"))).bytes == len(PICTURE)
    assert await origins.fault_code(server.url("two.jpg")) == "origin_host_key"
    file = tmp_path / "known_hosts"
    file.write_text(line)
    async with customer_origins(
        database, tmp_path, sftp_known_hosts=str(file), credentials_keys=""
    ) as other:
        await other.add("^sftp://.*", "sftp", LOGIN, place=0)
        for each in await other.strategies.list(7):
            if each.regex != "^sftp://.*":
                await other.strategies.delete(7, each.id)
        assert (await other.fetch(server.url("two.jpg"))).bytes == len(PICTURE)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("none.jpg", "origin_not_found"),
        ("a%20b", "origin_refused"),
        ("stalls.jpg", "origin_timeout"),
        ("page.jpg", "not_an_image"),
        ("large.jpg", "too_large"),
        ("x%00y.jpg", "invalid_input"),
    ],
)
async def test_each_failure_has_its_code(
    origins: CustomerOrigins, server: SftpServer, path: str, code: str
) -> None:
    await origins.add("^sftp://", "sftp", {**LOGIN, "host_key": server.host_key})
    assert await origins.fault_code(server.url(path)) == code


async def test_a_wrong_password_or_key_and_a_malformed_key_have_different_codes(
    origins: CustomerOrigins, server: SftpServer
) -> None:
    other_key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    known = {"host_key": server.host_key}
    await origins.add("one", "sftp", {"user": USER, "password": "wrong", **known})
    await origins.add("two", "sftp", {"user": USER, "private_key": other_key, **known})
    await origins.add("three", "sftp", {"user": USER, "private_key": "no key at all", **known})
    assert await origins.fault_code(server.url("one.jpg")) == "origin_refused"
    assert await origins.fault_code(server.url("two.jpg")) == "origin_refused"
    assert await origins.fault_code(server.url("three.jpg")) == "origin_credentials"


async def test_a_changed_host_key_is_refused_before_the_password_is_sent(
    origins: CustomerOrigins, served: Path
) -> None:
    async with sftp_server(served) as first:
        await origins.add("^sftp://", "sftp", {**LOGIN, "host_key": first.host_key})
        assert (await origins.fetch(first.url("a%20b/picture.jpg"))).bytes == len(PICTURE)
        port = first.port
    async with sftp_server(served, port) as second:
        assert await origins.fault_code(second.url("a%20b/picture.jpg")) == "origin_host_key"


async def test_an_unknown_host_key_is_refused(origins: CustomerOrigins, server: SftpServer) -> None:
    await origins.add("^sftp://", "sftp", LOGIN)
    assert await origins.fault_code(server.url("a%20b/picture.jpg")) == "origin_host_key"


async def test_a_silent_server_and_a_missing_one_have_different_codes(
    origins: CustomerOrigins, server: SftpServer
) -> None:
    await origins.add("^sftp://", "sftp", {**LOGIN, "host_key": server.host_key})
    async with listening(silent) as port:
        assert await origins.fault_code(f"sftp://127.0.0.1:{port}/a.jpg") == "origin_timeout"
    assert await origins.fault_code("sftp://127.0.0.1:1/a.jpg") == "origin_unavailable"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433"])
async def test_a_private_address_is_refused(
    database: Database, tmp_path: Path, server: SftpServer, host: str
) -> None:
    async with customer_origins(database, tmp_path, allow_private_addresses=False) as origins:
        await origins.add("^sftp://", "sftp", {**LOGIN, "host_key": server.host_key})
        assert await origins.fault_code(server.url("a.jpg", host)) == "origin_private_address"


async def test_sftp_without_a_strategy_or_with_a_password_in_the_address_is_refused(
    origins: CustomerOrigins, server: SftpServer
) -> None:
    assert await origins.fault_code(server.url("a.jpg")) == "origin_config"
    await origins.add("^sftp://", "sftp", {**LOGIN, "host_key": server.host_key})
    assert await origins.fault_code(f"sftp://u:p@127.0.0.1:{server.port}/a.jpg") == "invalid_input"
