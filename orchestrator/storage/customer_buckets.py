"""Objects in other people's buckets: read with their owner's keys, with ours, or with none.

One client for each server, region and pair of keys, of which the least recently used are closed.
Nothing is ever written. Unlike our own store's, a refusal, a missing object and a silence are told
apart, because the customer has to mend them.
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
from aiobotocore.session import get_session
from botocore import UNSIGNED
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ReadTimeoutError,
)

from orchestrator.errors import OriginUnavailable
from orchestrator.storage.store import CHUNK_BYTES, DEFAULT_MEDIA_TYPE

_CLIENTS = 16
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
_PASSING = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"})

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]
"""Makes the socket for (family, kind, protocol, name, address), or raises when it is refused."""


@dataclass(frozen=True, slots=True)
class S3Login:
    """Which server, and who asks it. Without keys: nobody (`unsigned`), or the machine's role."""

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    unsigned: bool = False
    guarded: bool = False
    """The server's address is a stranger's choice: each is judged before it is connected to."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """What is known of one object; the ETag has its quotes."""

    bytes: int
    etag: str
    media_type: str


@dataclass(slots=True)
class _Client:
    client: Any
    stack: AsyncExitStack
    users: int = 0


class BucketReader:
    """Reads objects of any bucket. An async context manager: it owns clients."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        socket_factory: SocketFactory,
        connections: int = 16,
    ) -> None:
        """`socket_factory` makes the sockets of `guarded` logins."""
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._socket_factory = socket_factory
        self._connections = connections
        self._session = get_session()  # reads the service's description once for all clients
        self._clients: OrderedDict[S3Login, _Client] = OrderedDict()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every client."""
        while self._clients:
            _, held = self._clients.popitem()
            await held.stack.aclose()

    async def head(self, login: S3Login, bucket: str, key: str) -> S3Object:
        """What is known of the object. Raises OriginUnavailable."""
        async with self._client(login) as client:
            with translated():
                answer = await client.head_object(Bucket=bucket, Key=key)
            return _object(answer)

    @asynccontextmanager
    async def open(
        self, login: S3Login, bucket: str, key: str, *, if_match: str = ""
    ) -> AsyncIterator[tuple[S3Object, AsyncIterator[bytes]]]:
        """The object and its bytes, in chunks. Raises OriginUnavailable, also between chunks; its
        code is `origin_changed` when the object has not the ETag `if_match`.
        """
        condition = {"IfMatch": if_match} if if_match else {}
        async with self._client(login) as client:
            with translated():
                answer = await client.get_object(Bucket=bucket, Key=key, **condition)
            async with answer["Body"] as body:
                yield _object(answer), _chunks(body)

    @asynccontextmanager
    async def _client(self, login: S3Login) -> AsyncIterator[Any]:
        """The client for this login, kept open meanwhile."""
        async with self._opening:
            held = self._clients.get(login)
            if held is None:
                held = await self._connected(login)
                self._clients[login] = held
            self._clients.move_to_end(login)
            held.users += 1
            idle = [each for each, client in self._clients.items() if not client.users]
            for each in idle[: max(0, len(self._clients) - _CLIENTS)]:
                await self._clients.pop(each).stack.aclose()
        try:
            yield held.client
        finally:
            held.users -= 1

    async def _connected(self, login: S3Login) -> _Client:
        connect_s, read_s = self._timeouts
        more: dict[str, Any] = {"signature_version": UNSIGNED} if login.unsigned else {}
        if login.guarded:
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
            proxies={} if login.guarded else None,
            **more,
        )
        stack = AsyncExitStack()
        with translated():
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
def translated() -> Iterator[None]:
    """Turn what a bucket's service and its client raise into OriginUnavailable."""
    try:
        yield
    except ClientError as error:
        raise _meaning(error.response) from error
    except NoCredentialsError as error:
        raise _refusal(
            "This machine has no credentials for buckets.", "origin_credentials"
        ) from error
    except (ConnectTimeoutError, ReadTimeoutError, aiohttp.ServerTimeoutError) as error:
        raise OriginUnavailable(
            "The bucket's service did not answer in time.", code="origin_timeout"
        ) from error
    except (BotoCoreError, aiohttp.ClientError, OSError, ValueError) as error:
        refused = _refused_address(error)
        if refused is not None:
            raise refused from error
        raise OriginUnavailable("The bucket's service does not answer.") from error


def _meaning(response: Mapping[str, Any]) -> OriginUnavailable:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING or status == 404:
        return _refusal("There is no such object in the bucket.", "origin_not_found")
    if code == "PreconditionFailed" or status == 412:
        return OriginUnavailable("The object was replaced.", code="origin_changed")
    if code in _PASSING or status >= 500 or status == 429:
        return OriginUnavailable("The bucket's service is busy or broken.")
    if code in _REFUSED or status in (401, 403):
        return _refusal(
            "The bucket's service refuses access: wrong credentials, no right to the object, "
            "or no such object.",
            "origin_refused",
        )
    return _refusal(f"The bucket's service answered {code or status}.", "origin_unavailable")


def _refusal(public: str, code: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code=code)


def _refused_address(error: BaseException) -> OriginUnavailable | None:
    """What the socket factory raised, below whatever it was wrapped in."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None or isinstance(seen, OriginUnavailable):
            return seen
        wrapped = getattr(seen, "kwargs", {}).get("error")
        seen = wrapped or seen.__cause__ or seen.__context__
    return None


def _object(answer: Mapping[str, Any]) -> S3Object:
    return S3Object(
        answer["ContentLength"],
        answer.get("ETag", ""),
        answer.get("ContentType", DEFAULT_MEDIA_TYPE),
    )


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    while True:
        with translated():
            chunk: bytes = await body.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk
