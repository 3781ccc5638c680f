"""The object store in a bucket of any S3-compatible service.

botocore's standard mode retries transient faults a limited number of times; `s3_client.py`
translates the rest. Files above 16 MB are uploaded in parts (`s3_multipart.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from orchestrator.errors import InvalidInput, ObjectNotFound, PreconditionFailed, StorageUnavailable
from orchestrator.settings import Storage
from orchestrator.storage.object_keys import check_key, check_metadata
from orchestrator.storage.s3_client import RangeRefused, open_client, translate_errors
from orchestrator.storage.s3_multipart import (
    PART_BYTES,
    abort_abandoned,
    copy_in_parts,
    put_in_parts,
    read_part,
)
from orchestrator.storage.store import (
    CHUNK_BYTES,
    DEFAULT_MEDIA_TYPE,
    ObjectInfo,
    ObjectStream,
    resolve_range,
)

COPY_BYTES = 5 * 1000**3
"""Larger objects are copied in parts, because S3 limits one copy to 5 GB."""
_MAX_DELETE_KEYS = 1000
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class PresignedPost:
    """The address and the fields of a form; the file follows the fields, as `file`."""

    url: str
    fields: Mapping[str, str]


class S3Store:
    """An ObjectStore in one bucket; `open_s3` creates it. Objects above `copy_bytes` are copied in
    parts.
    """

    def __init__(
        self, client: Any, bucket: str, prefix: str = "", *, copy_bytes: int = COPY_BYTES
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._copy_bytes = copy_bytes

    async def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""
        where = self._at(key)
        with translate_errors():
            answer = await self._client.head_object(**where)
        return _info(key, answer, answer["ContentLength"])

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None, if_match: str = ""
    ) -> AsyncIterator[ObjectStream]:
        """See ObjectStore.open."""
        where = self._at(key) | ({"IfMatch": if_match} if if_match else {})
        try:
            with translate_errors():
                answer = await self._client.get_object(**where, **_range(start, length))
        except RangeRefused:
            yield await self._empty(key, start)
            return
        # Leaving early closes the connection; one read to its end goes back to the pool.
        async with answer["Body"] as body:
            first, size, total = _announced_range(answer, start, length)
            yield ObjectStream(_info(key, answer, total), _chunks(body), start=first, length=size)

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        media_type: str = DEFAULT_MEDIA_TYPE,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str = "",
        cache_control: str = "",
    ) -> ObjectInfo:
        """See ObjectStore.put. `cache_control` is sent by S3 to clients that read the object."""
        where = self._at(key)
        entries = check_metadata(metadata)
        attributes = {"ContentType": media_type, "Metadata": _as_headers(entries)}
        if cache_control:
            attributes["CacheControl"] = cache_control
        condition = _condition(if_absent, if_match)
        size = len(body) if isinstance(body, bytes) else await asyncio.to_thread(_file_size, body)
        try:
            if size > PART_BYTES:
                answer = await put_in_parts(
                    self._client, where, body, size, attributes=attributes, condition=condition
                )
            else:
                data = await read_part(body, 0, size)
                with translate_errors():
                    answer = await self._client.put_object(
                        **where, **attributes, **condition, Body=data
                    )
        except ObjectNotFound as error:
            if if_match:  # some services answer 404 where others answer 412
                raise PreconditionFailed(
                    "Another writer created, replaced or deleted the object."
                ) from error
            raise StorageUnavailable("The bucket does not exist.") from error
        return ObjectInfo(key, size, answer["ETag"], media_type, _answered_at(answer), entries)

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """See ObjectStore.copy."""
        copy_source, where = self._at(source), self._at(target)
        info = await self.head(source)
        if info.bytes > self._copy_bytes:
            attributes = {"ContentType": info.media_type, "Metadata": _as_headers(info.metadata)}
            await copy_in_parts(self._client, copy_source, where, info, attributes)
        else:
            with translate_errors():
                await self._client.copy_object(**where, CopySource=copy_source)
        return await self.head(target)

    async def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore.delete."""
        entries = [{"Key": self._at(key)["Key"]} for key in keys]
        for begin in range(0, len(entries), _MAX_DELETE_KEYS):
            request = {"Objects": entries[begin : begin + _MAX_DELETE_KEYS], "Quiet": True}
            with translate_errors():
                answer = await self._client.delete_objects(Bucket=self._bucket, Delete=request)
            if any(error.get("Code") != "NoSuchKey" for error in answer.get("Errors", ())):
                raise StorageUnavailable("The object store could not delete every object.")

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore.list."""
        token: dict[str, str] = {}
        while True:
            with translate_errors():
                answer = await self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, **token
                )
            for entry in answer.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield ObjectInfo(key, entry["Size"], entry["ETag"], "", entry["LastModified"])
            if not answer.get("NextContinuationToken"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    async def presign_post(
        self, key: str, *, max_bytes: int, media_type: str, expires_s: int
    ) -> PresignedPost:
        """A form with which a client without credentials may store this one object, of 1 to
        `max_bytes` bytes and this media type, within `expires_s` seconds. Raises
        StorageUnavailable.
        """
        where = self._at(key)
        fields = {"Content-Type": media_type, "success_action_status": "204"}
        conditions = [
            *({name: value} for name, value in fields.items()),
            ["content-length-range", 1, max_bytes],
        ]
        with translate_errors():
            answer = await self._client.generate_presigned_post(
                **where, Fields=fields, Conditions=conditions, ExpiresIn=expires_s
            )
        return PresignedPost(answer["url"], answer["fields"])

    async def sweep_temporary(self, older_than_s: float = 86_400) -> int:
        """Abort unfinished multipart uploads that are at least that old; returns how many."""
        return await abort_abandoned(self._client, self._bucket, self._prefix, older_than_s)

    async def _empty(self, key: str, start: int) -> ObjectStream:
        """Return the stream of an empty object, for which S3 refuses every range. Raises
        InvalidInput for other objects.
        """
        info = await self.head(key)
        first, size = resolve_range(info.bytes, start, None)
        if size:
            raise StorageUnavailable("The object store refused a valid range.")
        return ObjectStream(info, _no_chunks(), start=first, length=0)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": check_key(self._prefix + check_key(key))}


@asynccontextmanager
async def open_s3(settings: Storage) -> AsyncIterator[S3Store]:
    """Open the store in the configured bucket; closes its connections at the end."""
    async with open_client(settings) as client:
        yield S3Store(client, settings.bucket, settings.prefix)


def _range(start: int, length: int | None) -> dict[str, str]:
    resolve_range(max(start, 0) + 1, start, length)  # raises if no object could satisfy it
    if start < 0:
        return {"Range": f"bytes={start}"}
    if length is not None:
        return {"Range": f"bytes={start}-{start + length - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}


def _announced_range(
    answer: Mapping[str, Any], start: int, length: int | None
) -> tuple[int, int, int]:
    """Return (first byte, bytes to come, bytes of the whole object) as the answer reports."""
    size = answer["ContentLength"]
    if "ContentRange" not in answer:
        if _range(start, length):
            raise StorageUnavailable("The object store ignored the requested range.")
        return 0, size, size
    span, _, total = answer["ContentRange"].removeprefix("bytes ").partition("/")
    first, _, last = span.partition("-")
    expected = resolve_range(int(total), start, length)
    if (int(first), int(last) - int(first) + 1) != expected or size != expected[1]:
        raise StorageUnavailable("The object store sent another range than requested.")
    return *expected, int(total)


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    while True:
        with translate_errors():
            chunk: bytes = await body.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


async def _no_chunks() -> AsyncIterator[bytes]:
    return
    yield


def _info(key: str, answer: Mapping[str, Any], size: int) -> ObjectInfo:
    return ObjectInfo(
        key,
        size,
        answer["ETag"],
        answer.get("ContentType", DEFAULT_MEDIA_TYPE),
        answer["LastModified"],
        {name.lower(): unquote(value) for name, value in answer.get("Metadata", {}).items()},
    )


def _condition(if_absent: bool, if_match: str) -> dict[str, str]:
    return ({"IfNoneMatch": "*"} if if_absent else {}) | ({"IfMatch": if_match} if if_match else {})


def _as_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the values in printable ASCII; other characters and `%` are percent-encoded."""
    return {name: quote(value, safe=_PLAIN) for name, value in metadata.items()}


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InvalidInput("The file to store cannot be read.") from error


def _answered_at(answer: Mapping[str, Any]) -> datetime:
    """Return the time of a write by the service's clock; by our own if it sent none."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)
