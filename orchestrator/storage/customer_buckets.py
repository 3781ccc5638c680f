"""Reads objects in the buckets of customers: with their keys, with this machine's, or with none.

There is one client for each server, region and pair of keys; idle clients beyond a number are
closed, least recently used first. Nothing is written. Unlike `s3_client.py`, the errors distinguish
a refusal, a missing object and a timeout, because the customer has to correct the cause.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiobotocore.config import AioConfig
from botocore import UNSIGNED
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ReadTimeoutError,
)

from orchestrator.errors import OriginUnavailable
from orchestrator.storage.named_session import named_session
from orchestrator.storage.store import CHUNK_BYTES, DEFAULT_MEDIA_TYPE

_MAX_CLIENTS = 16
_ATTEMPTS = 2
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchVersion"})
_REFUSED = frozenset(
    {
        "401",
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)
_TEMPORARY = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"})

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]
"""Returns a socket for (family, type, protocol, name, address), or raises if that address is not
permitted.
"""


@dataclass(frozen=True, slots=True)
class S3Login:
    """A server and the credentials for it. A login without keys is `unsigned`, or uses the role of
    this machine.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    unsigned: bool = False
    is_checked: bool = False
    """A customer chose the server, so the `socket_factory` checks each address."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """The description of one object; the ETag has its quotes."""

    bytes: int
    etag: str
    media_type: str


@dataclass(slots=True)
class _Client:
    client: Any
    stack: AsyncExitStack
    users: int = 0


class BucketReader:
    """Reads objects of any bucket. An async context manager, because it owns the clients."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        socket_factory: SocketFactory,
        connections: int = 16,
    ) -> None:
        """`socket_factory` creates the sockets of logins with `is_checked`."""
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._socket_factory = socket_factory
        self._connections = connections
        # One session for all clients, because it loads the description of the service.
        self._session = named_session()
        self._clients: OrderedDict[S3Login, _Client] = OrderedDict()
        self._clients_lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Return the reader; clients are opened when they are needed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every client."""
        while self._clients:
            _, entry = self._clients.popitem()
            await entry.stack.aclose()

    async def head(self, login: S3Login, bucket: str, key: str) -> S3Object:
        """Return the description of the object. Raises OriginUnavailable."""
        async with self._client(login) as client:
            with translate_errors():
                answer = await client.head_object(Bucket=bucket, Key=key)
            return _describe(answer)

    @asynccontextmanager
    async def open(
        self,
        login: S3Login,
        bucket: str,
        key: str,
        *,
        if_match: str = "",
        span: tuple[int, int] | None = None,
    ) -> AsyncIterator[tuple[S3Object, AsyncIterator[bytes]]]:
        """Open the object; yields its description and its bytes in chunks, only those from `span`
        (start, end) if it is given.

        Raises OriginUnavailable, also between chunks. Its code is `origin_changed` when the object
        does not have the ETag `if_match`, or does not have the span.
        """
        options = {"IfMatch": if_match} if if_match else {}
        if span is not None:
            options["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        async with self._client(login) as client:
            with translate_errors():
                answer = await client.get_object(Bucket=bucket, Key=key, **options)
            if span is not None and not _has_span(answer, span):
                raise OriginUnavailable("The bucket's service sent another range than requested.")
            async with answer["Body"] as body:
                yield _describe(answer), _chunks(body)

    @asynccontextmanager
    async def _client(self, login: S3Login) -> AsyncIterator[Any]:
        """Yield the client for this login; it stays open until the block ends."""
        async with self._clients_lock:
            entry = self._clients.get(login)
            if entry is None:
                entry = await self._open_client(login)
                self._clients[login] = entry
            self._clients.move_to_end(login)
            entry.users += 1
            idle = [each for each, client in self._clients.items() if not client.users]
            for each in idle[: max(0, len(self._clients) - _MAX_CLIENTS)]:
                await self._clients.pop(each).stack.aclose()
        try:
            yield entry.client
        finally:
            entry.users -= 1

    async def _open_client(self, login: S3Login) -> _Client:
        connect_s, read_s = self._timeouts
        more: dict[str, Any] = {"signature_version": UNSIGNED} if login.unsigned else {}
        if login.is_checked:
            more["connector_args"] = {
                "socket_factory": self._socket_factory,
                "use_dns_cache": False,
            }
        config = AioConfig(
            connect_timeout=connect_s,
            read_timeout=read_s,
            max_pool_connections=self._connections,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": "path" if login.endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={} if login.is_checked else None,
            **more,
        )
        stack = AsyncExitStack()
        with translate_errors():
            client = await stack.enter_async_context(
                self._session.create_client(
                    "s3",
                    region_name=login.region,
                    endpoint_url=login.endpoint or None,
                    aws_access_key_id=login.access_key or None,
                    aws_secret_access_key=login.secret_key or None,
                    aws_session_token=login.session_token or None,
                    config=config,
                )
            )
        return _Client(client, stack)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate the errors of a bucket's service and its client to OriginUnavailable."""
    try:
        yield
    except ClientError as error:
        raise _fault_of_response(error.response) from error
    except NoCredentialsError as error:
        raise _permanent_fault(
            "This machine has no credentials for buckets. Use a strategy with keys.",
            "origin_credentials",
        ) from error
    except (ConnectTimeoutError, ReadTimeoutError, aiohttp.ServerTimeoutError) as error:
        raise OriginUnavailable(
            "The bucket's service did not answer in time. Try again later.", code="origin_timeout"
        ) from error
    except (BotoCoreError, aiohttp.ClientError, OSError, ValueError) as error:
        address_fault = _find_address_fault(error)
        if address_fault is not None:
            raise address_fault from error
        raise OriginUnavailable("The bucket's service does not answer. Try again later.") from error


def _fault_of_response(response: Mapping[str, Any]) -> OriginUnavailable:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING or status == 404:
        return _permanent_fault(
            "There is no such object in the bucket. Check the address.", "origin_not_found"
        )
    if code in ("PreconditionFailed", "InvalidRange") or status in (412, 416):
        return OriginUnavailable(
            "The object was replaced. Ingest the asset again.", code="origin_changed"
        )
    if code in _TEMPORARY or status >= 500 or status == 429:
        return OriginUnavailable("The bucket's service is busy or has a fault. Try again later.")
    if code in _REFUSED or status in (401, 403):
        return _permanent_fault(
            "The bucket's service refused access. Check the credentials, their rights and the "
            "address.",
            "origin_refused",
        )
    return _permanent_fault(
        f"The bucket's service answered {code or status}.", "origin_unavailable"
    )


def _permanent_fault(public: str, code: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code=code)


def _find_address_fault(error: BaseException) -> OriginUnavailable | None:
    """Return the error of the socket factory, which botocore and aiohttp wrap several times."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None or isinstance(cause, OriginUnavailable):
            return cause
        wrapped = getattr(cause, "kwargs", {}).get("error")
        cause = wrapped or cause.__cause__ or cause.__context__
    return None


def _describe(answer: Mapping[str, Any]) -> S3Object:
    return S3Object(
        answer["ContentLength"],
        answer.get("ETag", ""),
        answer.get("ContentType", DEFAULT_MEDIA_TYPE),
    )


def _has_span(answer: Mapping[str, Any], span: tuple[int, int]) -> bool:
    """Return whether the answer has exactly these bytes of the object."""
    return str(answer.get("ContentRange", "")).startswith(f"bytes {span[0]}-{span[1] - 1}/")


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    while True:
        with translate_errors():
            chunk: bytes = await body.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk
