"""Large objects in S3: uploads and copies in parts, a few at a time. A failed upload is aborted.

The object appears when the last request succeeds, under the same conditions as a plain write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.errors import (
    InvalidInput,
    OrchestratorError,
    PreconditionFailed,
    StorageUnavailable,
)
from orchestrator.exception_text import describe_error
from orchestrator.storage.s3_client import translate_errors
from orchestrator.storage.store import ObjectInfo

log = logging.getLogger(__name__)

PART_BYTES = 16 * 1024**2
"""Size of a part. Parts are larger when there would otherwise be more than 10,000."""
_MAX_PARTS = 10_000
_MAX_CONCURRENT_PARTS = 4

Where = Mapping[str, str]
"""The Bucket and Key of one object."""
Attributes = Mapping[str, Any]
"""The ContentType and Metadata of a new object."""


async def put_in_parts(
    client: Any,
    where: Where,
    body: bytes | Path,
    size: int,
    *,
    attributes: Attributes,
    condition: Mapping[str, str],
) -> Mapping[str, Any]:
    """Upload the bytes, or the file, of `size` bytes; returns the answer to the last request."""

    async def send(number: int, start: int, length: int, upload: str) -> str:
        data = await read_part(body, start, length)
        with translate_errors():
            answer = await client.upload_part(
                **where, UploadId=upload, PartNumber=number, Body=data
            )
        return str(answer["ETag"])

    return await _send_parts(client, where, size, send, attributes=attributes, condition=condition)


async def copy_in_parts(
    client: Any, source: Where, where: Where, info: ObjectInfo, attributes: Attributes
) -> None:
    """Copy the object at `source`, which `info` describes. Raises StorageUnavailable if it is
    replaced during the copy.
    """

    async def send(number: int, start: int, length: int, upload: str) -> str:
        with translate_errors():
            answer = await client.upload_part_copy(
                **where,
                UploadId=upload,
                PartNumber=number,
                CopySource=source,
                CopySourceIfMatch=info.etag,
                CopySourceRange=f"bytes={start}-{start + length - 1}",
            )
        return str(answer["CopyPartResult"]["ETag"])

    try:
        await _send_parts(client, where, info.bytes, send, attributes=attributes, condition={})
    except PreconditionFailed as error:
        raise StorageUnavailable("The object was replaced while it was copied.") from error


async def abort_abandoned(client: Any, bucket: str, prefix: str, older_than_s: float) -> int:
    """Abort unfinished uploads below the prefix that are at least that old; returns how many."""
    before = datetime.now(UTC) - timedelta(seconds=older_than_s)
    with translate_errors():
        answer = await client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
    abandoned = [entry for entry in answer.get("Uploads", ()) if entry["Initiated"] <= before]
    for entry in abandoned:
        await _abort(client, {"Bucket": bucket, "Key": entry["Key"]}, entry["UploadId"])
    return len(abandoned)


async def read_part(body: bytes | Path, start: int, length: int) -> bytes:
    """Return `length` bytes of the body. Raises InvalidInput when the file cannot be read or is now
    shorter.
    """
    if isinstance(body, bytes):
        return body[start : start + length]
    try:
        data = await asyncio.to_thread(_read, body, start, length)
    except OSError as error:
        raise InvalidInput("The file to store cannot be read.") from error
    if len(data) != length:
        raise InvalidInput("The file to store changed while it was read.")
    return data


async def _send_parts(
    client: Any,
    where: Where,
    size: int,
    send: Callable[[int, int, int, str], Awaitable[str]],
    *,
    attributes: Attributes,
    condition: Mapping[str, str],
) -> Mapping[str, Any]:
    """Upload each part with `send(number, start, length, upload)`, which returns its ETag."""
    with translate_errors():
        upload = await _begin(client, where, attributes)
    try:
        parts = await _send_concurrently(
            size, lambda number, start, length: send(number, start, length, upload)
        )
        with translate_errors():
            answer: Mapping[str, Any] = await client.complete_multipart_upload(
                **where, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
    except BaseException:  # also when cancelled: an upload that is not aborted costs storage
        await _abort(client, where, upload)
        raise
    return answer


async def _begin(client: Any, where: Where, attributes: Attributes) -> str:
    """Begin an upload; returns its id. A cancelled call waits for the answer, because the store may
    have begun the upload, and only its id can abort it.
    """
    request = client.create_multipart_upload(**where, **attributes)
    answer = asyncio.create_task(request)  # no TaskGroup: it is awaited here in any case
    try:
        created = await asyncio.shield(answer)
    except asyncio.CancelledError:
        with suppress(OrchestratorError), translate_errors():  # the store began no upload
            await _abort(client, where, (await answer)["UploadId"])
        raise
    return str(created["UploadId"])


async def _send_concurrently(
    size: int, send: Callable[[int, int, int], Awaitable[str]]
) -> list[dict[str, Any]]:
    step = max(PART_BYTES, -(-size // _MAX_PARTS))
    slots = asyncio.Semaphore(_MAX_CONCURRENT_PARTS)

    async def send_part(number: int, start: int) -> dict[str, Any]:
        async with slots:
            etag = await send(number, start, min(step, size - start))
        return {"PartNumber": number, "ETag": etag}

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(send_part(number, start))
                for number, start in enumerate(range(0, size, step), 1)
            ]
    except ExceptionGroup as failures:
        # The first is the cause; the others were cancelled or follow from it.
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def _abort(client: Any, where: Where, upload: str) -> None:
    """Abort the upload if possible; otherwise `abort_abandoned` finds it later."""
    try:
        with translate_errors():
            await client.abort_multipart_upload(**where, UploadId=upload)
    except OrchestratorError as error:
        log.info(
            "multipart upload not aborted",
            extra={"key": where["Key"], "cause": describe_error(error)},
        )


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
