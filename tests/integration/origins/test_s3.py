"""Origins in buckets of a real S3 server: with keys, with this machine's credentials, without."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.session
import pytest

from orchestrator.origins.reader_types import FetchedFile, NotModified
from orchestrator.settings import Database
from tests.integration.origins.conftest import (
    CUSTOMER,
    HTML,
    PICTURE,
    CustomerOrigins,
    customer_origins,
)
from tests.support.file_servers import listening, silent
from tests.support.origins import origin_server
from tests.support.server_fixtures import S3Server
from tests.support.weed import BUCKET, CREDENTIALS, PUBLIC_BUCKET

ODD_KEY = "maps & plans/bäume 100%/a+b?.jpg"


def client_of(server: S3Server) -> Any:
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS[0],
        aws_secret_access_key=CREDENTIALS[1],
    )


def put(server: S3Server, key: str, body: bytes, bucket: str = BUCKET) -> None:
    client = client_of(server)
    client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="image/jpeg")
    client.close()


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> S3Server:
    for key, body in (
        ("picture.jpg", PICTURE),
        (ODD_KEY, PICTURE),
        ("page.jpg", HTML),
        ("large.jpg", b"\xff" * 2_000_001),
    ):
        put(s3_server, key, body)
    put(s3_server, "picture.jpg", PICTURE, PUBLIC_BUCKET)
    return s3_server


@pytest.fixture
async def ambient(
    database: Database, tmp_path: Path, bucket: S3Server
) -> AsyncIterator[CustomerOrigins]:
    """Origins on a machine whose own credentials open the server."""
    async with customer_origins(
        database,
        tmp_path,
        s3_endpoint=bucket.endpoint,
        s3_access_key=CREDENTIALS[0],
        s3_secret_key=CREDENTIALS[1],
        read_timeout_s=60,
    ) as origins:
        yield origins


def keys(server: S3Server, **changes: str) -> dict[str, str]:
    values = {
        "access_key": CREDENTIALS[0],
        "secret_key": CREDENTIALS[1],
        "endpoint": server.endpoint,
    }
    return values | changes


@pytest.mark.parametrize(
    "form",
    [
        "s3://{bucket}/{key}",
        "s3://eu-west-1/{bucket}/{key}",
        "https://{bucket}.s3.amazonaws.com/{key}?X-Amz-Signature=abc",
        "https://s3.eu-west-1.amazonaws.com/{bucket}/{key}",
        "{endpoint}/{bucket}/{key}",
    ],
)
async def test_an_object_is_fetched_with_the_strategys_keys_in_every_spelling(
    origins: CustomerOrigins, bucket: S3Server, form: str
) -> None:
    await origins.add(".", "s3", keys(bucket))
    origin = form.format(bucket=BUCKET, key=quote(ODD_KEY), endpoint=bucket.endpoint)
    fetched = await origins.fetch(origin)
    assert fetched.path.read_bytes() == PICTURE
    assert fetched.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert fetched.media_type == "image/jpeg"
    assert fetched.etag.startswith('"')


async def test_a_signed_address_is_requested_as_it_is_written(
    origins: CustomerOrigins, bucket: S3Server
) -> None:
    client = client_of(bucket)
    signed = client.generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": ODD_KEY}, ExpiresIn=60
    )
    client.close()
    assert (await origins.fetch(signed)).bytes == len(PICTURE)
    assert await origins.fault_code(signed.replace("Signature=", "Signature=0")) == "origin_refused"


async def test_an_object_is_fetched_with_this_machines_credentials(
    ambient: CustomerOrigins,
) -> None:
    await ambient.add("^s3://", "s3-ambient")
    assert (await ambient.fetch(f"s3://{BUCKET}/picture.jpg")).bytes == len(PICTURE)


async def test_this_machines_credentials_are_used_only_for_the_ambient_buckets(
    database: Database, tmp_path: Path, bucket: S3Server
) -> None:
    async with customer_origins(
        database,
        tmp_path,
        s3_endpoint=bucket.endpoint,
        s3_access_key=CREDENTIALS[0],
        s3_secret_key=CREDENTIALS[1],
        s3_ambient_buckets=["digitised-*"],
    ) as origins:
        await origins.add("^s3://", "s3-ambient")
        assert await origins.fault_code(f"s3://{BUCKET}/picture.jpg") == "origin_refused"


async def test_a_public_bucket_needs_no_credentials_and_a_private_one_refuses(
    ambient: CustomerOrigins,
) -> None:
    await ambient.add("^s3://", "s3-public")
    assert (await ambient.fetch(f"s3://{PUBLIC_BUCKET}/picture.jpg")).bytes == len(PICTURE)
    assert await ambient.fault_code(f"s3://{BUCKET}/picture.jpg") == "origin_refused"


@pytest.mark.parametrize(
    ("key", "changes", "code"),
    [
        ("none.jpg", {}, "origin_not_found"),
        ("page.jpg", {}, "not_an_image"),
        ("large.jpg", {}, "too_large"),
        ("picture.jpg", {"secret_key": "wrong"}, "origin_refused"),
        ("picture.jpg", {"access_key": "unknown"}, "origin_refused"),
        ("picture.jpg", {"endpoint": "http://127.0.0.1:1"}, "origin_unavailable"),
        ("picture.jpg", {"endpoint": "http://u:p@127.0.0.1"}, "origin_config"),
        ("picture.jpg", {"region": "../../x"}, "origin_config"),
        ("a/../b.jpg", {}, "origin_config"),
    ],
)
async def test_each_failure_has_its_code(
    origins: CustomerOrigins, bucket: S3Server, key: str, changes: dict[str, str], code: str
) -> None:
    await origins.add("^s3://", "s3", keys(bucket, **changes))
    assert await origins.fault_code(f"s3://{BUCKET}/{key}") == code


async def test_a_missing_bucket_is_not_found(origins: CustomerOrigins, bucket: S3Server) -> None:
    await origins.add("^s3://", "s3", keys(bucket))
    assert await origins.fault_code("s3://no-such-bucket/picture.jpg") == "origin_not_found"


async def test_a_server_that_hangs_times_out(origins: CustomerOrigins) -> None:
    async with listening(silent) as port:
        await origins.add("^https://", "s3", keys_at(f"http://127.0.0.1:{port}"))
        assert await origins.fault_code("https://bucket.s3.amazonaws.com/x.jpg") == "origin_timeout"


def keys_at(endpoint: str) -> dict[str, str]:
    return {"access_key": "a", "secret_key": "b", "endpoint": endpoint}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433"])
async def test_an_endpoint_the_customer_names_may_not_be_private(
    database: Database, tmp_path: Path, host: str
) -> None:
    async with (
        origin_server() as server,
        customer_origins(database, tmp_path, allow_private_addresses=False) as origins,
    ):
        await origins.add("^s3://", "s3", keys_at(server.url("", host)))
        code = await origins.fault_code("s3://bucket/picture.jpg")
        if host != "2130706433":  # the resolver does not know this spelling
            assert code == "origin_private_address"
        assert server.requests == []


async def test_an_object_with_an_unchanged_etag_is_not_fetched_again(
    origins: CustomerOrigins, bucket: S3Server
) -> None:
    await origins.add("^s3://", "s3", keys(bucket))
    origin = f"s3://{BUCKET}/changing.jpg"
    put(bucket, "changing.jpg", PICTURE)
    first = await origins.fetch(origin)
    again = await origins.fetcher.fetch(CUSTOMER, origin, origins.folder / "2", first.etag)
    assert again == NotModified(first.etag)
    assert not (origins.folder / "2").exists()
    put(bucket, "changing.jpg", PICTURE + b"more")
    changed = await origins.fetcher.fetch(CUSTOMER, origin, origins.folder / "3", first.etag)
    assert isinstance(changed, FetchedFile)
    assert changed.bytes == len(PICTURE) + 4


async def test_linked_credentials_are_read_cached_and_read_again_after_a_refusal(
    ambient: CustomerOrigins, bucket: S3Server
) -> None:
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = ("archivist", "first")
        link = f"s3://us-east-1/{BUCKET}/secrets/login.json"
        await ambient.add("^http://", "basic-http-auth", link)
        origin = server.url("/picture")
        assert await ambient.fault_code(origin) == "origin_credentials"  # not cached
        login(bucket, "first")
        assert (await ambient.fetch(origin)).bytes == len(PICTURE)
        login(bucket, "second")
        # The server still expects the first password, and the first one is cached.
        assert (await ambient.fetch(origin)).bytes == len(PICTURE)
        server.logins["/picture"] = ("archivist", "second")
        # The server refuses the first password, so the link is read again.
        assert (await ambient.fetch(origin)).bytes == len(PICTURE)
        server.logins["/picture"] = ("archivist", "third")
        assert await ambient.fault_code(origin) == "origin_refused"


def login(server: S3Server, password: str) -> None:
    put(
        server,
        "secrets/login.json",
        json.dumps({"user": "archivist", "password": password}).encode(),
    )


@pytest.mark.parametrize("body", [b"no json", b"[1]", b"\xff\xfe", b"x" * 70_000, b"{}"])
async def test_malformed_linked_credentials_are_a_credentials_fault(
    ambient: CustomerOrigins, bucket: S3Server, body: bytes
) -> None:
    put(bucket, "secrets/broken.json", body)
    await ambient.add("^http://", "basic-http-auth", f"s3://{BUCKET}/secrets/broken.json")
    assert await ambient.fault_code("http://127.0.0.1:1/picture") == "origin_credentials"


async def test_many_logins_at_once_use_few_clients(
    origins: CustomerOrigins, bucket: S3Server
) -> None:
    for n in range(24):
        await origins.add(f"/{n}\\.jpg$", "s3", keys(bucket, region=f"eu-west-{n}"))
        put(bucket, f"{n}.jpg", PICTURE)
    files = await asyncio.gather(
        *(
            origins.fetcher.fetch(CUSTOMER, f"s3://{BUCKET}/{n}.jpg", origins.folder / str(n))
            for n in range(24)
        )
    )
    assert [fetched.bytes for fetched in files] == [len(PICTURE)] * 24
