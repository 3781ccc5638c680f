"""The credentials and the data of the installation are closed to customers by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.catalog.values import StrategyDraft
from orchestrator.errors import InvalidInput, OrchestratorError
from orchestrator.origins.own_data import OwnData
from orchestrator.settings import Database, Ingest, Server, Settings, Storage
from tests.integration.origins.conftest import (
    CUSTOMER,
    PICTURE,
    CustomerOrigins,
    customer_origins,
)
from tests.integration.origins.test_s3 import client_of
from tests.support.origins import origin_server
from tests.support.server_fixtures import S3Server
from tests.support.weed import BUCKET, CREDENTIALS

MINE, OTHER, OWN = f"originals-{CUSTOMER}", "originals-8", BUCKET
LOGIN = {"user": "archivist", "password": "correct horse"}


@pytest.fixture(scope="module")
def buckets(s3_server: S3Server) -> S3Server:
    client = client_of(s3_server)
    client.create_bucket(Bucket=MINE)
    for name in (MINE, OWN):
        for key, body in (
            ("picture.jpg", PICTURE),
            ("1/1/a/picture.jpg", PICTURE),
            (f"{CUSTOMER}/login.json", json.dumps(LOGIN).encode()),
            ("8/login.json", json.dumps(LOGIN).encode()),
        ):
            client.put_object(Bucket=name, Key=key, Body=body)
    client.close()
    return s3_server


def machine(endpoint: str) -> dict[str, str]:
    """The settings with which this machine can read every bucket of the server."""
    access, secret = CREDENTIALS
    return {"s3_endpoint": endpoint, "s3_access_key": access, "s3_secret_key": secret}


async def store_strategy(origins: CustomerOrigins, regex: str, kind: str, link: str = "") -> None:
    """Store a strategy that an earlier version accepted."""
    draft = StrategyDraft(regex, kind, link, False, 0)
    await origins.catalog.strategies.create(CUSTOMER, draft)
    origins.matcher.forget(CUSTOMER)


def test_by_default_nothing_is_read_with_the_credentials_of_the_machine() -> None:
    settings = Ingest()
    assert (settings.credentials_links, settings.s3_ambient_buckets) == ([], [])


async def test_no_customer_reads_with_the_machines_credentials_what_is_not_named_for_it(
    database: Database, tmp_path: Path, buckets: S3Server
) -> None:
    closed: dict[str, list[str]] = {"s3_ambient_buckets": [], "credentials_links": []}
    for_each = {
        "s3_ambient_buckets": ["originals-{customer}"],
        "credentials_links": ["s3://store-of-logins/*", f"s3://{MINE}/{{customer}}/*"],
    }
    access = machine(buckets.endpoint)
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = (LOGIN["user"], LOGIN["password"])
        for number, settings in enumerate((closed, for_each)):
            async with customer_origins(database, tmp_path, **access, **settings) as origins:
                if not number:
                    await store_strategy(origins, "^s3://", "s3-ambient")
                    for name in (CUSTOMER, 8):
                        link = f"s3://{MINE}/{name}/login.json"
                        await store_strategy(origins, f"#{name}$", "basic-http-auth", link)
                codes = {}
                for origin in (
                    f"s3://{MINE}/picture.jpg",
                    f"s3://{OTHER}/picture.jpg",
                    server.url(f"/picture#{CUSTOMER}"),
                    server.url("/picture#8"),
                ):
                    codes[origin] = await _outcome(origins, origin)
            refused = ["origin_refused"] * 2 + ["origin_credentials"] * 2
            mine = ["read", "origin_refused", "read", "origin_credentials"]
            assert list(codes.values()) == (mine if number else refused)


async def _outcome(origins: CustomerOrigins, origin: str) -> str:
    try:
        await origins.fetch(origin)
    except OrchestratorError as error:
        return error.code
    return "read"


@pytest.mark.parametrize("kind", ["s3-ambient", "s3-public", "s3", "link"])
@pytest.mark.parametrize("prefix", ["", "/1/"])
async def test_the_object_store_is_never_an_origin(
    database: Database, tmp_path: Path, buckets: S3Server, kind: str, prefix: str
) -> None:
    storage = Storage(kind="s3", bucket=OWN, endpoint=buckets.endpoint, prefix=prefix)
    own = OwnData.of(Settings(server=Server(data_dir=tmp_path / "data"), storage=storage))
    access, secret = CREDENTIALS
    keys = {"access_key": access, "secret_key": secret, "endpoint": f"{buckets.endpoint}/"}
    async with customer_origins(
        database, tmp_path, own=own, **machine(buckets.endpoint)
    ) as origins:
        if kind == "link":
            await origins.add("^http", "basic-http-auth", f"s3://{OWN}/1/1/a/picture.jpg")
            assert await origins.fault_code("https://127.0.0.1:1/x") == "origin_credentials"
            return
        await origins.add("^s3://", kind, keys if kind == "s3" else None)
        for key in ("1/1/a/picture.jpg", "1//1/a/picture.jpg"):
            assert await origins.fault_code(f"s3://{OWN}/{key}") == "origin_refused"
        if prefix and kind != "s3-public":
            assert await _outcome(origins, f"s3://{OWN}/picture.jpg") == "read"


async def test_a_file_of_the_installation_is_never_an_origin(
    database: Database, tmp_path: Path
) -> None:
    data, root = tmp_path / "data", tmp_path / "store"
    settings = Settings(server=Server(data_dir=data), storage=Storage(root=root))
    files = [data / "secrets" / "token", data / "objects" / "a.jpg", root / "1" / "a.jpg"]
    outside = tmp_path / "a.jpg"
    for file in (*files, outside):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(PICTURE)
    link = tmp_path / "link.jpg"
    link.symlink_to(files[0])
    own = OwnData.of(settings)
    async with customer_origins(database, tmp_path, own=own, file_roots=[str(tmp_path)]) as origins:
        for file in (*files, link, data / "objects" / ".." / "secrets" / "token"):
            with pytest.raises(InvalidInput, match="a file of this installation"):
                origins.fetcher.check_permitted(str(file))
            assert await origins.fault_code(str(file)) == "origin_refused"
        origins.fetcher.check_permitted(str(outside))
        assert await _outcome(origins, str(outside)) == "read"
