"""Uploads that clients store in the bucket of `incoming` themselves, with a form that permits one
object. Then they ask to have it received, like any other upload.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestrator.catalog.uploads import Upload
from orchestrator.errors import InvalidInput, NotFound, ObjectNotFound, OrchestratorError
from orchestrator.settings import Uploads
from orchestrator.storage.s3_store import PresignedPost, S3Store
from orchestrator.uploads.intake import Intake

PREFIX = "direct/"
"""Begins the keys of objects that clients store. No key of a picture has a slash."""
_TOKEN_BYTES = 16
_KEY_CHARACTERS = len(PREFIX) + 2 * _TOKEN_BYTES
_MEDIA_TYPE = "image/"
_MOST_EXPIRES_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class DirectForm:
    """A form for one object, and the key with which the client has it received."""

    key: str
    form: PresignedPost
    expires: datetime


class DirectUploads:
    """The direct uploads to one bucket."""

    def __init__(self, store: S3Store, intake: Intake, settings: Uploads) -> None:
        self._store = store
        self._intake = intake
        self._max_bytes = settings.max_bytes
        self._expires_s = min(settings.expire_after_s, _MOST_EXPIRES_S)

    async def begin(self, media_type: str) -> DirectForm:
        """A form for a picture of this media type. Raises InvalidInput, StorageUnavailable."""
        if not media_type.startswith(_MEDIA_TYPE) or len(media_type) > 100:
            raise InvalidInput("type should be the media type of the picture, such as image/jpeg.")
        key = PREFIX + secrets.token_hex(_TOKEN_BYTES)
        seconds = max(1, int(self._expires_s))
        form = await self._store.presign_post(
            key, max_bytes=self._max_bytes, media_type=media_type, expires_s=seconds
        )
        return DirectForm(key, form, datetime.now(UTC) + timedelta(seconds=seconds))

    async def receive(self, key: str) -> Upload:
        """Receive the object that a client has stored, and delete it, also if it is refused. Raises
        NotFound, and as `Intake.accept`.
        """
        if not key.startswith(PREFIX) or len(key) != _KEY_CHARACTERS:
            raise NotFound("There is no such upload. Store the file with the form first.")
        async with self._object(key) as (size, chunks), self._intake.work_folder(size) as folder:
            received = await self._intake.receive(folder, chunks)
            return await self._intake.accept(received)

    async def sweep(self) -> int:
        """Delete objects that were stored and not received in time. Returns their number. Raises
        StorageUnavailable.
        """
        oldest = datetime.now(UTC) - timedelta(seconds=self._expires_s)
        keys = [info.key async for info in self._store.list(PREFIX) if info.modified < oldest]
        await self._store.delete(keys)
        return len(keys)

    @asynccontextmanager
    async def _object(self, key: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """(size in bytes, chunks) of an object. It is deleted unless it can be received later."""
        try:
            async with self._store.open(key) as stream:
                yield stream.info.bytes, stream
        except ObjectNotFound as error:
            raise NotFound(
                "There is no such upload. Store the file with the form first."
            ) from error
        except OrchestratorError as error:
            if not error.passing:
                await self._store.delete([key])
            raise
        await self._store.delete([key])
