"""The one place that meets aiobotocore: how a client is made, and what its errors mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import InvalidInput, ObjectNotFound, PreconditionFailed, StorageUnavailable
from orchestrator.settings import Storage

_ATTEMPTS = 3
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_UNMET = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict"})
_REFUSED = frozenset({"416", "InvalidRange"})


class RangeRefused(InvalidInput):
    """The service found nothing in the range asked for; never leaves this package."""


@asynccontextmanager
async def connected(settings: Storage) -> AsyncIterator[Any]:
    """A client of the configured service, with at most `max_connections` connections."""
    config = AioConfig(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=settings.max_connections,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # Not every S3-compatible service has virtual hosts or the newer trailing checksums.
        s3={"addressing_style": "path" if settings.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    async with get_session().create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint or None,
        aws_access_key_id=settings.access_key.get_secret_value() or None,
        aws_secret_access_key=settings.secret_key.get_secret_value() or None,
        config=config,
    ) as client:
        yield client


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the service and its client raise into our errors."""
    try:
        yield
    except ClientError as error:
        raise _meaning(str(error.response.get("Error", {}).get("Code", ""))) from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise StorageUnavailable("The object store does not answer.") from error


def _meaning(
    code: str,
) -> ObjectNotFound | PreconditionFailed | RangeRefused | StorageUnavailable:
    if code in _MISSING:
        return ObjectNotFound("There is no such object.")
    if code in _UNMET:
        return PreconditionFailed("The object is not the one expected.")
    if code in _REFUSED:
        return RangeRefused("The range starts past the end of the object.")
    return StorageUnavailable("The object store answered with an error.")
