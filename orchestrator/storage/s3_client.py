"""Creates the S3 client of the object store and translates its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    ReadTimeoutError,
)

from orchestrator.errors import (
    ObjectNotFound,
    PreconditionFailed,
    StorageTimeout,
    StorageUnavailable,
)
from orchestrator.settings import Storage
from orchestrator.storage.named_session import named_session

_ATTEMPTS = 3
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_CONDITION_FAILED = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict"})
_RANGE_REFUSED = frozenset({"416", "InvalidRange"})


class RangeRefused(Exception):
    """The service has no bytes in the requested range. Only this package sees this error."""


@asynccontextmanager
async def open_client(settings: Storage) -> AsyncIterator[Any]:
    """Open a client of the configured service with at most `max_connections` connections."""
    config = AioConfig(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=settings.max_connections,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # Some S3-compatible services lack virtual hosts or the newer trailing checksums.
        s3={"addressing_style": "path" if settings.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    if settings.signature_version:
        config = config.merge(AioConfig(signature_version=settings.signature_version))
    async with named_session().create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint or None,
        aws_access_key_id=settings.access_key.get_secret_value() or None,
        aws_secret_access_key=settings.secret_key.get_secret_value() or None,
        config=config,
    ) as client:
        yield client


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate the errors of the service and its client to OrchestratorError."""
    try:
        yield
    except ClientError as error:
        raise _error_for_code(str(error.response.get("Error", {}).get("Code", ""))) from error
    except (ConnectTimeoutError, ReadTimeoutError, TimeoutError) as error:
        raise StorageTimeout("The object store does not answer in time.") from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise StorageUnavailable("The object store does not answer.") from error


def _error_for_code(
    code: str,
) -> ObjectNotFound | PreconditionFailed | RangeRefused | StorageUnavailable:
    if code in _MISSING:
        return ObjectNotFound("There is no such object.")
    if code in _CONDITION_FAILED:
        return PreconditionFailed("Another writer created, replaced or deleted the object.")
    if code in _RANGE_REFUSED:
        return RangeRefused("The range starts past the end of the object.")
    return StorageUnavailable("The object store answered with an error.")
