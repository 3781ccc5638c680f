"""Large objects of the S3 form: uploads and copies in parts, a few at once, aborted if anything
goes wrong.

An object in parts appears at the instant its last request succeeds, under the same conditions as
a plain write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.errors import (
    InvalidInput,
    OrchestratorError,
    PreconditionFailed,
    StorageUnavailable,
)
from orchestrator.storage.s3_client import translated
from orchestrator.storage.store import ObjectInfo

PART_BYTES = 16 * 1024**2
"""Size of a part; larger ones when there would be more than 10,000."""
_MAX_PARTS = 10_000
_PARTS_AT_ONCE = 4

Where = Mapping[str, str]
"""Bucket and Key of one object."""


async def put_in_parts(
    client: Any,
    where: Where,
    body: bytes | Path,
    size: int,
    described: Mapping[str, Any],
    condition: Mapping[str, str],
) -> Mapping[str, Any]:
    """Upload the bytes or the file of `size` bytes; returns the service's answer to the last
    request.
    """

    async def send(number: int, start: int, length: int, upload: str) -> str:
        data = await read_part(body, start, length)
        with translated():
            answer = await client.upload_part(
                **where, UploadId=upload, PartNumber=number, Body=data
            )
        return str(answer["ETag"])

    return await _in_parts(client, where, size, send, described, condition)


async def copy_in_parts(
    client: Any, origin: Where, where: Where, found: ObjectInfo, described: Mapping[str, Any]
) -> None:
    """Copy the object that was found at `origin`, as long as it is still that one."""

    async def send(number: int, start: int, length: int, upload: str) -> str:
        with translated():
            answer = await client.upload_part_copy(
                **where,
                UploadId=upload,
                PartNumber=number,
                CopySource=origin,
                CopySourceIfMatch=found.etag,
                CopySourceRange=f"bytes={start}-{start + length - 1}",
            )
        return str(answer["CopyPartResult"]["ETag"])

    try:
        await _in_parts(client, where, found.bytes, send, described, {})
    except PreconditionFailed as error:
        raise StorageUnavailable("The object was replaced while it was copied.") from error


async def abort_abandoned(client: Any, bucket: str, prefix: str, older_than_s: float) -> int:
    """Abort unfinished uploads below the prefix that were begun that long ago; returns how many."""
    before = datetime.now(UTC) - timedelta(seconds=older_than_s)
    with translated():
        answer = await client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
    abandoned = [entry for entry in answer.get("Uploads", ()) if entry["Initiated"] <= before]
    for entry in abandoned:
        await _abort(client, {"Bucket": bucket, "Key": entry["Key"]}, entry["UploadId"])
    return len(abandoned)


async def read_part(body: bytes | Path, start: int, length: int) -> bytes:
    """These bytes of the body. Raises InvalidInput when the file cannot be read or has become
    shorter.
    """
    if isinstance(body, bytes):
        return body[start : start + length]
    try:
        data = await asyncio.to_thread(_read, body, start, length)
    except OSError as error:
        raise InvalidInput("The file to be stored cannot be read.") from error
    if len(data) != length:
        raise InvalidInput("The file to be stored changed while it was read.")
    return data


async def _in_parts(
    client: Any,
    where: Where,
    size: int,
    send: Callable[[int, int, int, str], Awaitable[str]],
    described: Mapping[str, Any],
    condition: Mapping[str, str],
) -> Mapping[str, Any]:
    with translated():
        begun = await client.create_multipart_upload(**where, **described)
    upload = begun["UploadId"]
    try:
        parts = await _all_sent(
            size, lambda number, start, length: send(number, start, length, upload)
        )
        with translated():
            answer: Mapping[str, Any] = await client.complete_multipart_upload(
                **where, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
    except BaseException:
        await _abort(client, where, upload)
        raise
    return answer


async def _all_sent(
    size: int, send: Callable[[int, int, int], Awaitable[str]]
) -> list[dict[str, Any]]:
    step = max(PART_BYTES, -(-size // _MAX_PARTS))
    room = asyncio.Semaphore(_PARTS_AT_ONCE)

    async def one(number: int, start: int) -> dict[str, Any]:
        async with room:
            etag = await send(number, start, min(step, size - start))
        return {"PartNumber": number, "ETag": etag}

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(number, start))
                for number, start in enumerate(range(0, size, step), 1)
            ]
    except (
        ExceptionGroup
    ) as failures:  # the first says why; the others were cancelled or follow from it
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def _abort(client: Any, where: Where, upload: str) -> None:
    """Best effort: what is not aborted here is found by `abort_abandoned`."""
    try:
        with translated():
            await client.abort_multipart_upload(**where, UploadId=upload)
    except OrchestratorError:
        return


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
