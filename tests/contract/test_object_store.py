"""The contract of every object store, run on a folder and on a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.errors import (
    InvalidInput,
    ObjectNotFound,
    TooLarge,
)
from orchestrator.storage.store import CHUNK_BYTES, ObjectStore, delete_prefix, read

pytestmark = pytest.mark.asyncio(loop_scope="session")
LARGE = 20 * 1024**2
UNUSUAL_KEYS = [
    "1/1/caf\u00e9 \u65e5\u672c \U0001f5bc/7/s.json",
    "1/1/a%2Fb%25c/7/open/400.jpg",
    "1/1/cafe\u0301 (decomposed)",
    "plus+and&question?hash#at@colon:semi;comma,quote'double\"star*/x",
    "equals=and=tmp/=.json",
    "-leading.dash/.leading.dot/trailing.dot./~tilde",
    "long/" + "\u00e9" * 125,
    "long/" + "x" * 250 + "/" + "y" * 250,
]


async def keys_below(store: ObjectStore, prefix: str) -> list[str]:
    return sorted([info.key async for info in store.list(prefix)])


async def test_an_object_is_read_back_with_its_type_and_metadata(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    metadata = {"origin": "file:///pictures/caf\u00e9 100%.tif", "n-2": "2"}
    put = await store.put("1/1/a/5/s.json", b"{}", media_type="application/json", metadata=metadata)
    info = await store.head("1/1/a/5/s.json")
    async with store.open("1/1/a/5/s.json") as stream:
        assert await stream.read() == b"{}"
        assert stream.info == info
    assert (info.key, info.bytes, info.media_type) == ("1/1/a/5/s.json", 2, "application/json")
    assert dict(info.metadata) == metadata == dict(put.metadata)
    assert info.etag == put.etag
    assert info.etag.startswith('"')
    assert before < info.modified < datetime.now(UTC) + timedelta(seconds=2)


async def test_the_default_media_type_is_octet_stream(store: ObjectStore) -> None:
    await store.put("a", b"x")
    assert (await store.head("a")).media_type == "application/octet-stream"


async def test_an_empty_object_can_be_stored_and_read(store: ObjectStore) -> None:
    await store.put("empty", b"")
    assert (await store.head("empty")).bytes == 0
    assert await read(store, "empty", max_bytes=0) == b""
    async with store.open("empty", start=0, length=10) as stream:
        assert await stream.read() == b""
    async with store.open("empty", start=-10) as stream:
        assert await stream.read() == b""


async def test_putting_again_replaces_bytes_etag_and_metadata(store: ObjectStore) -> None:
    first = await store.put("a", b"first", metadata={"n": "1"}, media_type="text/plain")
    second = await store.put("a", b"second!")
    info = await store.head("a")
    assert first.etag != second.etag == info.etag
    assert (info.bytes, dict(info.metadata)) == (7, {})
    assert await read(store, "a", max_bytes=100) == b"second!"


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (0, 1, b"0"),
        (9, 1, b"9"),
        (5, 100, b"56789"),
        (0, 10, b"0123456789"),
        (-3, None, b"789"),
        (-100, None, b"0123456789"),
    ],
)
async def test_a_range_is_cut_at_the_end_and_counted_from_the_end_when_negative(
    store: ObjectStore, start: int, length: int | None, expected: bytes
) -> None:
    await store.put("digits", b"0123456789")
    async with store.open("digits", start=start, length=length) as stream:
        assert (stream.length, stream.info.bytes) == (len(expected), 10)
        assert await stream.read() == expected
        assert stream.start == (start if start >= 0 else max(0, 10 + start))


@pytest.mark.parametrize(
    ("start", "length"), [(10, None), (11, 5), (10**12, 1), (3, 0), (0, -1), (-3, 2)]
)
async def test_a_range_outside_of_the_object_is_refused(
    store: ObjectStore, start: int, length: int | None
) -> None:
    await store.put("digits", b"0123456789")
    with pytest.raises(InvalidInput):
        async with store.open("digits", start=start, length=length):
            pass


async def test_a_range_of_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        async with store.open("nothing", start=3, length=5):
            pass


async def test_a_missing_key_is_not_found_by_any_method(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.head("nothing")
    with pytest.raises(ObjectNotFound):
        async with store.open("nothing"):
            pass
    with pytest.raises(ObjectNotFound):
        await store.copy("nothing", "elsewhere")
    await store.delete(["nothing"])
    assert await keys_below(store, "") == []


async def test_a_file_is_stored_in_parts_and_read_back_bit_for_bit(
    store: ObjectStore, tmp_path: Path
) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(os.urandom(LARGE))
    put = await store.put("large.tif", path, media_type="image/tiff", metadata={"n": "1"})
    info = await store.head("large.tif")
    assert (put.bytes, put.etag) == (LARGE, info.etag) == (info.bytes, put.etag)
    assert (info.media_type, dict(info.metadata)) == ("image/tiff", {"n": "1"})
    digest = hashlib.sha256()
    async with store.open("large.tif", if_match=put.etag) as stream:
        async for chunk in stream:
            assert 0 < len(chunk) <= CHUNK_BYTES
            digest.update(chunk)
    assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()
    async with store.open("large.tif", start=17 * 1024**2 - 5, length=10) as stream:
        with path.open("rb") as file:
            file.seek(17 * 1024**2 - 5)
            assert await stream.read() == file.read(10)


async def test_a_body_file_that_cannot_be_read_is_an_invalid_input(
    store: ObjectStore, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput):
        await store.put("a", tmp_path / "missing.tif")
    assert await keys_below(store, "") == []


async def test_a_key_may_be_an_object_and_a_prefix_in_either_order(store: ObjectStore) -> None:
    await store.put("a/b", b"object")
    await store.put("a/b/c", b"below")
    await store.put("x/y/z", b"below")
    await store.put("x/y", b"object")
    await store.put("a/bc", b"beside")
    assert await read(store, "a/b", max_bytes=9) == b"object"
    assert await read(store, "a/b/c", max_bytes=9) == b"below"
    assert await read(store, "x/y", max_bytes=9) == b"object"
    assert await keys_below(store, "a/b") == ["a/b", "a/b/c", "a/bc"]
    assert await keys_below(store, "a/b/") == ["a/b/c"]
    await store.delete(["a/b", "x/y/z"])
    assert await read(store, "a/b/c", max_bytes=9) == b"below"
    assert await read(store, "x/y", max_bytes=9) == b"object"
    with pytest.raises(ObjectNotFound):
        await store.head("x")
    assert await keys_below(store, "") == ["a/b/c", "a/bc", "x/y"]


@pytest.mark.parametrize("key", UNUSUAL_KEYS, ids=lambda key: ascii(key)[:20])
async def test_unusual_keys_are_stored_listed_copied_and_deleted(
    store: ObjectStore, key: str
) -> None:
    body = key.encode()
    put = await store.put(key, body)
    assert await read(store, key, max_bytes=2000) == body
    assert [(i.key, i.bytes, i.etag) async for i in store.list(key)] == [(key, len(body), put.etag)]
    await store.copy(key, f"{key[:60]}/copy")
    assert await read(store, f"{key[:60]}/copy", max_bytes=2000) == body
    await store.delete([key])
    assert await keys_below(store, "") == [f"{key[:60]}/copy"]


async def test_composed_and_decomposed_names_are_two_objects(store: ObjectStore) -> None:
    await store.put("caf\u00e9", b"one")
    await store.put("cafe\u0301", b"two")
    assert await read(store, "caf\u00e9", max_bytes=3) == b"one"
    assert await read(store, "cafe\u0301", max_bytes=3) == b"two"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/./b",
        "..",
        "a\0b",
        "a\\b",
        "a\nb",
        "\ud800",
        "a/" + "b" * 256,
        "a/" * 600 + "b",
    ],
    ids=lambda key: ascii(key)[:20],
)
async def test_an_invalid_key_is_refused_and_changes_nothing(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidInput):
        await store.put(key, b"x")
    with pytest.raises(InvalidInput):
        await store.head(key)
    with pytest.raises(InvalidInput):
        async with store.open(key):
            pass
    with pytest.raises(InvalidInput):
        await store.delete([key])
    assert await keys_below(store, "") == []


async def test_a_listing_has_several_pages_and_reports_bytes_and_etags(store: ObjectStore) -> None:
    names = [f"many/{number % 7}/{number:04}" for number in range(1203)]
    slots = asyncio.Semaphore(16)

    async def write(name: str) -> None:
        async with slots:
            await store.put(name, name.encode())

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(write(name))
    await store.put("other", b"x")
    listed = [info async for info in store.list("many/")]
    assert sorted(info.key for info in listed) == sorted(names)
    assert {info.bytes for info in listed} == {len(names[0])}
    info = listed[600]
    assert info.etag == (await store.head(info.key)).etag
    assert await delete_prefix(store, "many/") == len(names)
    assert await keys_below(store, "") == ["other"]


async def test_a_copy_has_the_bytes_type_and_metadata_and_outlives_the_original(
    store: ObjectStore,
) -> None:
    await store.put("a", b"body", media_type="image/jpeg", metadata={"n": "\u00e9"})
    await store.put("b/c", b"to be replaced, longer")
    copied = await store.copy("a", "b/c")
    assert (copied.key, copied.bytes, copied.media_type) == ("b/c", 4, "image/jpeg")
    assert dict(copied.metadata) == {"n": "\u00e9"}
    await store.put("a", b"changed")
    assert await read(store, "b/c", max_bytes=10, if_match=copied.etag) == b"body"
    await store.delete(["a"])
    assert await read(store, "b/c", max_bytes=10) == b"body"


async def test_read_refuses_an_object_over_the_limit(store: ObjectStore) -> None:
    await store.put("a", b"12345")
    assert await read(store, "a", max_bytes=5) == b"12345"
    with pytest.raises(TooLarge):
        await read(store, "a", max_bytes=4)


@pytest.mark.parametrize(
    "metadata",
    [
        {"Upper": "x"},
        {"a_b": "x"},
        {"": "x"},
        {"a": ""},
        {"a": " x"},
        {"a": "new\nline"},
        {"a": "x" * 3000},
    ],
)
async def test_metadata_that_not_every_store_can_hold_is_refused(
    store: ObjectStore, metadata: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput):
        await store.put("a", b"x", metadata=metadata)
