"""Origins in buckets of a real S3 server: with keys, with this machine's credentials, with none."""

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
from tests.integration.origins.conftest import CUSTOMER, HTML, PICTURE, Desk, a_desk
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
async def machine(database: Database, tmp_path: Path, bucket: S3Server) -> AsyncIterator[Desk]:
    """A machine whose own credentials open the server."""
    async with a_desk(
        database,
        tmp_path,
        s3_endpoint=bucket.endpoint,
        s3_access_key=CREDENTIALS[0],
        s3_secret_key=CREDENTIALS[1],
        read_timeout_s=5,
    ) as desk:
        yield desk


def keys(server: S3Server, **changes: str) -> dict[str, str]:
    given = {
        "access_key": CREDENTIALS[0],
        "secret_key": CREDENTIALS[1],
        "endpoint": server.endpoint,
    }
    return given | changes


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
    desk: Desk, bucket: S3Server, form: str
) -> None:
    await desk.add(".", "s3", keys(bucket))
    origin = form.format(bucket=BUCKET, key=quote(ODD_KEY), endpoint=bucket.endpoint)
    fetched = await desk.fetch(origin)
    assert fetched.path.read_bytes() == PICTURE
    assert fetched.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert fetched.media_type == "image/jpeg"
    assert fetched.etag.startswith('"')


async def test_a_signed_address_is_asked_for_as_it_is_written(desk: Desk, bucket: S3Server) -> None:
    client = client_of(bucket)
    signed = client.generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": ODD_KEY}, ExpiresIn=60
    )
    client.close()
    assert (await desk.fetch(signed)).bytes == len(PICTURE)
    assert await desk.code(signed.replace("Signature=", "Signature=0")) == "origin_refused"


async def test_an_object_is_fetched_with_this_machines_credentials(machine: Desk) -> None:
    await machine.add("^s3://", "s3-ambient")
    assert (await machine.fetch(f"s3://{BUCKET}/picture.jpg")).bytes == len(PICTURE)


async def test_this_machines_credentials_are_for_the_buckets_named(
    database: Database, tmp_path: Path, bucket: S3Server
) -> None:
    async with a_desk(
        database,
        tmp_path,
        s3_endpoint=bucket.endpoint,
        s3_access_key=CREDENTIALS[0],
        s3_secret_key=CREDENTIALS[1],
        s3_ambient_buckets=["digitised-*"],
    ) as desk:
        await desk.add("^s3://", "s3-ambient")
        assert await desk.code(f"s3://{BUCKET}/picture.jpg") == "origin_refused"


async def test_a_public_bucket_needs_no_credentials_and_a_private_one_refuses(
    machine: Desk,
) -> None:
    await machine.add("^s3://", "s3-public")
    assert (await machine.fetch(f"s3://{PUBLIC_BUCKET}/picture.jpg")).bytes == len(PICTURE)
    assert await machine.code(f"s3://{BUCKET}/picture.jpg") == "origin_refused"


@pytest.mark.parametrize(
    ("key", "changes", "code"),
    [
        ("none.jpg", {}, "origin_not_found"),
        ("page.jpg", {}, "not_an_image"),
        ("large.jpg", {}, "too_large"),
        ("picture.jpg", {"secret_key": "wrong"}, "origin_refused"),
        ("picture.jpg", {"access_key": "nobody"}, "origin_refused"),
        ("picture.jpg", {"endpoint": "http://127.0.0.1:1"}, "origin_unavailable"),
        ("picture.jpg", {"endpoint": "http://u:p@127.0.0.1"}, "origin_config"),
        ("picture.jpg", {"region": "../../x"}, "origin_config"),
        ("a/../b.jpg", {}, "origin_config"),
    ],
)
async def test_each_way_of_failing_has_its_code(
    desk: Desk, bucket: S3Server, key: str, changes: dict[str, str], code: str
) -> None:
    await desk.add("^s3://", "s3", keys(bucket, **changes))
    assert await desk.code(f"s3://{BUCKET}/{key}") == code


async def test_a_bucket_that_is_not_there_is_told_so(desk: Desk, bucket: S3Server) -> None:
    await desk.add("^s3://", "s3", keys(bucket))
    assert await desk.code("s3://no-such-bucket/picture.jpg") == "origin_not_found"


async def test_a_server_that_hangs_times_out(desk: Desk) -> None:
    async with listening(silent) as port:
        await desk.add("^https://", "s3", keys_at(f"http://127.0.0.1:{port}"))
        assert await desk.code("https://bucket.s3.amazonaws.com/x.jpg") == "origin_timeout"


def keys_at(endpoint: str) -> dict[str, str]:
    return {"access_key": "a", "secret_key": "b", "endpoint": endpoint}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433"])
async def test_an_endpoint_the_customer_names_may_not_be_private(
    database: Database, tmp_path: Path, host: str
) -> None:
    async with (
        origin_server() as server,
        a_desk(database, tmp_path, allow_private_addresses=False) as desk,
    ):
        await desk.add("^s3://", "s3", keys_at(server.url("", host)))
        code = await desk.code("s3://bucket/picture.jpg")
        if host != "2130706433":  # which the resolver does not know here
            assert code == "origin_private_address"
        assert server.requests == []


async def test_an_object_that_has_its_etag_still_is_not_fetched_again(
    desk: Desk, bucket: S3Server
) -> None:
    await desk.add("^s3://", "s3", keys(bucket))
    origin = f"s3://{BUCKET}/changing.jpg"
    put(bucket, "changing.jpg", PICTURE)
    first = await desk.fetch(origin)
    again = await desk.origins.fetch(CUSTOMER, origin, desk.folder / "2", first.etag)
    assert again == NotModified(first.etag)
    assert not (desk.folder / "2").exists()
    put(bucket, "changing.jpg", PICTURE + b"more")
    changed = await desk.origins.fetch(CUSTOMER, origin, desk.folder / "3", first.etag)
    assert isinstance(changed, FetchedFile)
    assert changed.bytes == len(PICTURE) + 4


async def test_linked_credentials_are_read_cached_and_read_again_after_a_refusal(
    machine: Desk, bucket: S3Server
) -> None:
    async with origin_server() as server:
        server.files["/picture"] = PICTURE
        server.logins["/picture"] = ("archivist", "first")
        link = f"s3://us-east-1/{BUCKET}/secrets/login.json"
        await machine.add("^http://", "basic-http-auth", link)
        origin = server.url("/picture")
        assert await machine.code(origin) == "origin_credentials"  # and that is not remembered
        login(bucket, "first")
        assert (await machine.fetch(origin)).bytes == len(PICTURE)
        login(bucket, "second")
        assert (await machine.fetch(origin)).bytes == len(PICTURE)  # the first are remembered
        server.logins["/picture"] = ("archivist", "second")
        assert (await machine.fetch(origin)).bytes == len(PICTURE)  # read anew after the refusal
        server.logins["/picture"] = ("archivist", "third")
        assert await machine.code(origin) == "origin_refused"


def login(server: S3Server, password: str) -> None:
    put(
        server,
        "secrets/login.json",
        json.dumps({"user": "archivist", "password": password}).encode(),
    )


@pytest.mark.parametrize("body", [b"no json", b"[1]", b"\xff\xfe", b"x" * 70_000, b"{}"])
async def test_linked_credentials_that_cannot_be_read_are_told_so(
    machine: Desk, bucket: S3Server, body: bytes
) -> None:
    put(bucket, "secrets/broken.json", body)
    await machine.add("^http://", "basic-http-auth", f"s3://{BUCKET}/secrets/broken.json")
    assert await machine.code("http://127.0.0.1:1/picture") == "origin_credentials"


async def test_many_logins_at_once_use_few_clients(desk: Desk, bucket: S3Server) -> None:
    for n in range(24):
        await desk.add(f"/{n}\\.jpg$", "s3", keys(bucket, region=f"eu-west-{n}"))
        put(bucket, f"{n}.jpg", PICTURE)
    codes = await asyncio.gather(
        *(
            desk.origins.fetch(CUSTOMER, f"s3://{BUCKET}/{n}.jpg", desk.folder / str(n))
            for n in range(24)
        )
    )
    assert [fetched.bytes for fetched in codes] == [len(PICTURE)] * 24
