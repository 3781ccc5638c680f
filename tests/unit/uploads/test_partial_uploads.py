"""Partial uploads: what survives, who may send, what is bounded, what expires."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import (
    BodyTooSlow,
    ChecksumMismatch,
    Conflict,
    NoRoom,
    NotAnImage,
    NotFound,
    StateConflict,
    StorageUnavailable,
    TooLarge,
)
from orchestrator.uploads.partial_uploads import Checksum, PartialLimits, PartialUploads
from tests.support.patience import patience

BODY = random.Random(5).randbytes(3_000_000)
LIMITS = PartialLimits(
    quota=50_000_000, floor=0, expire_after_s=3600, pause_timeout_s=60, receive_timeout_s=60
)


@pytest.fixture
def partial(tmp_path: Path) -> PartialUploads:
    return PartialUploads(tmp_path / "partial", LIMITS)


def reader(body: bytes, size: int = 65_536) -> Callable[[], Awaitable[bytes]]:
    """Reads `body` as a request does."""
    position = 0

    async def read() -> bytes:
        nonlocal position
        await asyncio.sleep(0)
        chunk = body[position : position + size]
        position += len(chunk)
        return chunk

    return read


def lost_after(body: bytes) -> Callable[[], Awaitable[bytes]]:
    """Reads `body`, and then the connection is lost."""
    inner = reader(body)

    async def read() -> bytes:
        return await inner() or _raise(ConnectionResetError())

    return read


def _raise(error: BaseException) -> bytes:
    raise error


async def accepted(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


async def test_parts_make_the_whole_file_which_is_accepted_once(
    partial: PartialUploads, tmp_path: Path
) -> None:
    upload = await partial.create(len(BODY), "filename YQ==")
    for begin in range(0, len(BODY), 1_000_000):
        upload = await partial.append(upload.id, begin, reader(BODY[begin : begin + 1_000_000]))
    assert upload.is_whole and upload.metadata == "filename YQ=="
    finished = await partial.finish(upload.id, accepted)
    assert finished.result == {"sha256": hashlib.sha256(BODY).hexdigest()}
    # Another process is asked after the client lost the answer.
    other = PartialUploads(tmp_path / "partial", LIMITS)
    again = await other.finish(upload.id, lambda _: _fail())
    assert again.result == finished.result and again.is_whole
    assert [path.suffix for path in (tmp_path / "partial").iterdir() if path.suffix] == [".json"]
    with pytest.raises(StateConflict):
        await partial.append(upload.id, len(BODY), reader(b""))


async def _fail() -> dict[str, Any]:
    raise AssertionError("accepted twice")


async def test_bytes_before_a_lost_connection_are_kept(
    partial: PartialUploads, tmp_path: Path
) -> None:
    upload = await partial.create(len(BODY), "")
    with pytest.raises(ConnectionResetError):
        await partial.append(upload.id, 0, lost_after(BODY[:1_500_001]))
    found = await PartialUploads(tmp_path / "partial", LIMITS).find(upload.id)
    assert found.offset == 1_500_001
    with pytest.raises(StateConflict, match="1500001"):
        await partial.append(upload.id, 0, reader(BODY))


async def test_more_bytes_than_announced_are_refused(partial: PartialUploads) -> None:
    upload = await partial.create(1000, "")
    with pytest.raises(TooLarge):
        await partial.append(upload.id, 0, reader(BODY[:1001], 1001))
    assert (await partial.find(upload.id)).offset == 0


async def test_bytes_with_a_wrong_checksum_are_not_kept(partial: PartialUploads) -> None:
    upload = await partial.create(2000, "")
    right = Checksum("sha1", hashlib.sha1(BODY[:1000]).digest())
    assert (await partial.append(upload.id, 0, reader(BODY[:1000]), right)).offset == 1000
    with pytest.raises(ChecksumMismatch):
        await partial.append(upload.id, 1000, reader(BODY[:1000][::-1]), right)
    with pytest.raises(ConnectionResetError):
        await partial.append(upload.id, 1000, lost_after(BODY[:500]), right)
    assert (await partial.find(upload.id)).offset == 1000


async def test_a_client_that_resumes_ends_the_request_that_still_waits(
    partial: PartialUploads, tmp_path: Path
) -> None:
    upload = await partial.create(2000, "")
    other = PartialUploads(tmp_path / "partial", LIMITS)
    waiting = asyncio.Event()

    async def hang() -> bytes:
        waiting.set()
        await asyncio.Event().wait()
        return b""

    async with asyncio.timeout(20 * patience()), asyncio.TaskGroup() as group:
        first = group.create_task(_outcome(partial.append(upload.id, 0, hang)))
        await waiting.wait()
        second = await other.append(upload.id, 0, reader(BODY[:2000]))
    assert second.is_whole
    assert isinstance(first.result(), Conflict)


async def _outcome(running: Awaitable[Any]) -> Any:
    try:
        return await running
    except Conflict as error:
        return error


async def test_a_client_that_sends_nothing_is_ended(tmp_path: Path) -> None:
    limits = replace(LIMITS, pause_timeout_s=0.2)
    partial = PartialUploads(tmp_path / "partial", limits)
    upload = await partial.create(2000, "")
    with pytest.raises(BodyTooSlow):
        await partial.append(upload.id, 0, asyncio.Event().wait)  # type: ignore[arg-type]


async def test_the_sum_of_unfinished_uploads_is_bounded(tmp_path: Path) -> None:
    partial = PartialUploads(tmp_path / "partial", replace(LIMITS, quota=10_000_000))
    first = await partial.create(9_000_000, "")
    with pytest.raises(NoRoom):
        await partial.create(2_000_000, "")
    await partial.delete(first.id)
    results = await asyncio.gather(
        *(partial.create(1, "") for _ in range(30)), return_exceptions=True
    )
    # Each counts as a mebibyte at least.
    assert sum(not isinstance(each, BaseException) for each in results) == 9
    with pytest.raises(NotFound):
        await partial.find(first.id)


async def test_the_floor_of_the_disk_stays_free(tmp_path: Path) -> None:
    partial = PartialUploads(tmp_path / "partial", replace(LIMITS, floor=2**62))
    with pytest.raises(NoRoom):
        await partial.create(1, "")


async def test_what_is_refused_leaves_nothing_and_what_failed_for_now_is_kept(
    partial: PartialUploads, tmp_path: Path
) -> None:
    upload = await partial.create(4, "")
    await partial.append(upload.id, 0, reader(b"text"))

    async def fail(_: Path) -> dict[str, Any]:
        raise StorageUnavailable("away")

    async def refuse(_: Path) -> dict[str, Any]:
        raise NotAnImage("text")

    with pytest.raises(StorageUnavailable):
        await partial.finish(upload.id, fail)
    assert (await partial.find(upload.id)).is_whole
    with pytest.raises(NotAnImage):
        await partial.finish(upload.id, refuse)
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["lock"]


async def test_expired_files_are_swept_except_those_in_use(
    partial: PartialUploads, tmp_path: Path
) -> None:
    folder = tmp_path / "partial"
    old, used, new, done = [await partial.create(2000, "") for _ in range(4)]
    await partial.append(done.id, 0, reader(BODY[:2000]))
    await partial.finish(done.id, accepted)
    for path in folder.iterdir():
        if new.id not in path.name:
            os.utime(path, (1e9, 1e9))
    started, end = asyncio.Event(), asyncio.Event()

    async def hang() -> bytes:
        started.set()
        await end.wait()
        return b""

    async with asyncio.TaskGroup() as group:
        group.create_task(partial.append(used.id, 0, hang))
        await started.wait()
        assert await partial.sweep() == 3
        end.set()
    assert {path.name[:32] for path in folder.iterdir() if path.suffix} == {used.id, new.id}
    assert (await partial.find(used.id)).offset == 0
    for gone in (old, done):
        with pytest.raises(NotFound):
            await partial.find(gone.id)


@pytest.mark.parametrize("name", ["", "..", "x" * 32, "../" + "a" * 29, "A" * 32])
async def test_another_name_is_no_upload(partial: PartialUploads, name: str) -> None:
    with pytest.raises(NotFound):
        await partial.find(name)
