"""The store in S3: faults of the service, large copies, unfinished uploads."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.errors import ObjectNotFound, StorageUnavailable
from orchestrator.settings import Storage
from orchestrator.storage.s3_client import open_client
from orchestrator.storage.s3_store import S3Store, open_s3
from orchestrator.storage.store import ObjectStore, read
from orchestrator.work_context import WorkContext, working_for
from tests.support.counting_proxy import counting_proxy
from tests.support.descriptors import open_descriptors
from tests.support.patience import patience
from tests.support.serve_process import free_port
from tests.support.server_fixtures import S3Server

PART = 5 * 1024**2


@asynccontextmanager
async def raw_client(storage: Storage) -> AsyncIterator[tuple[Any, dict[str, str]]]:
    """Open a client of the same bucket, to inspect it without the store."""
    async with open_client(storage) as client:
        yield client, {"Bucket": storage.bucket, "Prefix": f"{storage.prefix}/"}


@asynccontextmanager
async def answering(answer: bytes, heads: list[bytes] | None = None) -> AsyncIterator[Storage]:
    """Run a service that answers every request with these bytes and closes the connection. The
    headers of the requests are added to `heads`.
    """
    heads = [] if heads is None else heads

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield storage_at(port)


def storage_at(port: int) -> Storage:
    return Storage(
        kind="s3",
        endpoint=f"http://127.0.0.1:{port}",
        bucket="pictures",
        access_key=SecretStr("a"),
        secret_key=SecretStr("b"),
        connect_timeout_s=1,
        read_timeout_s=0.5,
    )


async def test_every_method_of_a_missing_service_raises_unavailable(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(17 * 1024**2))
    async with open_s3(storage_at(free_port())) as store:
        attempts = (
            store.head("a"),
            store.put("a", b"x"),
            store.put("a", tmp_path / "large"),
            store.copy("a", "b"),
            store.delete(["a"]),
            read(store, "a", max_bytes=9),
            anext(store.list("")),
        )
        async with asyncio.timeout(30 * patience()):
            ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(end) for end in ends] == [StorageUnavailable] * len(attempts)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"not HTTP at all\r\n\r\n",
        b"",
    ],
    ids=["500", "503", "403", "garbage", "silence"],
)
async def test_a_failing_service_is_unavailable_and_not_empty(answer: bytes) -> None:
    async with answering(answer) as storage, open_s3(storage) as store:
        ends = await asyncio.gather(
            store.head("a"), read(store, "a", max_bytes=9), return_exceptions=True
        )
    assert [type(end) for end in ends] == [StorageUnavailable] * 2


@pytest.mark.parametrize("sent", [0, 1, 999])
async def test_a_body_that_ends_early_is_unavailable(sent: int) -> None:
    answer = (
        b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "x"\r\n'
        b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
    ) + b"x" * sent
    async with answering(answer) as storage, open_s3(storage) as store:
        with pytest.raises(StorageUnavailable):
            await read(store, "a", max_bytes=1000)


async def test_a_stalled_body_is_unavailable_after_the_read_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: "x"\r\n')
        writer.write(b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nabc")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_s3(storage_at(port)) as store:
        with pytest.raises(StorageUnavailable):
            await asyncio.wait_for(read(store, "a", max_bytes=9), 5 * patience())


async def test_an_answer_without_the_requested_range_is_unavailable() -> None:
    answer = (
        b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "x"\r\n'
        b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nabcd"
    )
    async with answering(answer) as storage, open_s3(storage) as store:
        with pytest.raises(StorageUnavailable):
            async with store.open("a", start=2):
                pass


async def test_a_missing_bucket_is_not_an_empty_one(s3_server: S3Server) -> None:
    async with open_s3(s3_server.storage(bucket="no-such-bucket-here")) as store:
        with pytest.raises((StorageUnavailable, ObjectNotFound)):
            await read(store, "a", max_bytes=9)
        with pytest.raises(StorageUnavailable):
            _ = [info async for info in store.list("")]


async def test_stores_with_different_prefixes_in_one_bucket_are_separate(
    s3_server: S3Server,
) -> None:
    async with open_s3(s3_server.storage()) as one, open_s3(s3_server.storage()) as other:
        await one.put("a", b"one")
        await other.put("a", b"other")
        assert await read(one, "a", max_bytes=9) == b"one"
        assert [info.key async for info in one.list("")] == ["a"]
        await other.delete(["a"])
        assert await read(one, "a", max_bytes=9) == b"one"


async def test_a_large_object_is_copied_in_parts(s3_server: S3Server) -> None:
    storage, body = s3_server.storage(), os.urandom(17 * 1024**2)
    async with open_client(storage) as client:
        store = S3Store(client, storage.bucket, storage.prefix, copy_bytes=PART)
        await store.put("a", body, media_type="image/tiff", metadata={"n": "caf\u00e9"})
        copied = await store.copy("a", "b")
        assert (copied.bytes, copied.media_type) == (len(body), "image/tiff")
        assert dict(copied.metadata) == {"n": "caf\u00e9"}
        assert await read(store, "b", max_bytes=len(body), if_match=copied.etag) == body


async def test_a_cancelled_upload_in_parts_is_aborted(s3_server: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(64 * 1024**2))
    storage = s3_server.storage()
    async with open_s3(storage) as store, raw_client(storage) as (client, where):
        for pause_s in (0.01, 0.05, 0.1):
            task = asyncio.create_task(store.put("large", path))
            await asyncio.sleep(pause_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not (await client.list_multipart_uploads(**where)).get("Uploads")
        assert [info.key async for info in store.list("")] == []


async def test_an_upload_that_is_cancelled_before_its_id_arrives_is_aborted(
    s3_server: S3Server,
) -> None:
    storage = s3_server.storage()
    with counting_proxy(s3_server.endpoint) as slow:
        behind = storage.model_copy(update={"endpoint": slow.address})
        async with open_s3(behind) as store, raw_client(storage) as (client, where):
            slow.delay_s = 0.5
            task = asyncio.create_task(store.put("large", bytes(17 * 1024**2)))
            async with asyncio.timeout(20 * patience()):
                while not (await client.list_multipart_uploads(**where)).get("Uploads"):
                    await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not (await client.list_multipart_uploads(**where)).get("Uploads")


async def test_old_uploads_of_killed_processes_are_aborted(
    s3_server: S3Server,
) -> None:
    storage = s3_server.storage()
    async with open_s3(storage) as store, raw_client(storage) as (client, where):
        key = f"{storage.prefix}/left"
        await client.create_multipart_upload(Bucket=storage.bucket, Key=key)
        assert await store.sweep_temporary(older_than_s=3600) == 0
        assert await store.sweep_temporary(older_than_s=-5) == 1
        assert not (await client.list_multipart_uploads(**where)).get("Uploads")


async def test_the_number_of_connections_is_limited_by_the_settings(s3_server: S3Server) -> None:
    async with open_s3(s3_server.storage(max_connections=3)) as store:
        await store.put("a", bytes(100_000))
        before = open_descriptors()
        most = 0

        async def read_object(store: ObjectStore) -> None:
            nonlocal most
            assert len(await read(store, "a", max_bytes=100_000)) == 100_000
            most = max(most, open_descriptors())

        await asyncio.gather(*(read_object(store) for _ in range(60)))
        assert most <= before + 3


async def test_requests_name_the_request_that_caused_them_outside_the_signature() -> None:
    heads: list[bytes] = []
    trace_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with answering(missing, heads) as storage, open_s3(storage) as store:
        context = WorkContext("from-the-client", trace_parent)
        with working_for(context), pytest.raises(ObjectNotFound):
            await read(store, "a", max_bytes=1)
        with pytest.raises(ObjectNotFound):
            await read(store, "a", max_bytes=1)
    assert b"x-request-id: from-the-client" in heads[0].lower()
    assert f"traceparent: {trace_parent}".encode() in heads[0].lower()
    (signed,) = re.findall(rb"SignedHeaders=([^,]+)", heads[0])
    assert b"x-request-id" not in signed
    assert b"x-request-id" not in heads[1].lower()
