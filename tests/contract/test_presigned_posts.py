"""Forms with which a client stores an object in the bucket itself: what they permit."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from orchestrator.errors import ObjectNotFound
from orchestrator.storage.s3_store import PresignedPost, open_s3
from orchestrator.storage.store import read
from tests.support.server_fixtures import S3Server

KEY = "direct/0123456789abcdef"
BODY = b"\xff\xd8\xff" + bytes(5000)


async def post(form: PresignedPost, body: bytes, **changes: str) -> int:
    """The status of the answer to the form, with changed fields."""
    data = aiohttp.FormData()
    changed = {name.lower(): value for name, value in changes.items()}
    for name, value in form.fields.items():
        data.add_field(name, changed.get(name.lower(), value))
    data.add_field("file", body, filename="photo.jpg")
    async with aiohttp.ClientSession() as client, client.post(form.url, data=data) as answer:
        return answer.status


async def test_a_form_stores_one_object_within_its_bounds(s3_server: S3Server) -> None:
    async with open_s3(s3_server.storage(signature_version="s3v4")) as store:
        form = await store.presign_post(KEY, max_bytes=6000, media_type="image/jpeg", expires_s=60)
        refused = {
            "too large": await post(form, bytes(6001)),
            "empty": await post(form, b""),
            "another media type": await post(form, BODY, **{"Content-Type": "text/html"}),
            "another key": await post(form, BODY, key=form.fields["key"] + "2"),
            "another signature": await post(form, BODY, **{"x-amz-signature": "0" * 64}),
        }
        assert {name: status for name, status in refused.items() if status < 400} == {}
        with pytest.raises(ObjectNotFound):
            await store.head(KEY)
        assert await post(form, BODY) == 204
        assert await read(store, KEY, max_bytes=9000) == BODY


async def test_a_form_expires(s3_server: S3Server) -> None:
    async with open_s3(s3_server.storage(signature_version="s3v4")) as store:
        form = await store.presign_post(KEY, max_bytes=6000, media_type="image/jpeg", expires_s=1)
        await asyncio.sleep(2.1)  # the time of the service, which has no other clock
        assert 400 <= await post(form, BODY) < 500
        with pytest.raises(ObjectNotFound):
            await store.head(KEY)
