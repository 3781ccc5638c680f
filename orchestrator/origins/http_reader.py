"""HTTP(S) origins: one GET, bounded in connections, silence and redirects.

Each socket is checked against `addresses.is_public` at the moment it is made, with the very address
it will be connected to: nothing that happens between look-up and connection (DNS rebinding)
matters.
"""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.download import CHUNK_BYTES
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.reader_types import Access, Opened, Unchanged
from orchestrator.origins.sockets import new_socket, permitted_by
from orchestrator.origins.strategies import Kind
from orchestrator.settings import Ingest

_REDIRECTS = {301, 302, 303, 307, 308}
_WORTH_A_RETRY = {408, 425, 429}
_SENDABLE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
"""RFC 3986, section 2."""
_CODES = {
    401: "origin_refused",
    403: "origin_refused",
    404: "origin_not_found",
    410: "origin_not_found",
    408: "origin_timeout",
    504: "origin_timeout",
}
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "orchestrator"}


class HttpReader:
    """Reads http and https origins. An async context manager: it owns a connection pool."""

    def __init__(self, settings: Ingest, permitted: Callable[[str], bool] = is_public) -> None:
        """`permitted` judges numeric addresses unless `ingest.allow_private_addresses`."""
        self._settings = settings
        self._permitted = permitted_by(settings, permitted)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        connector = aiohttp.TCPConnector(
            # None here: how much is read at once is `jobs.workers` and `jobs.per_host`, and waiting
            # for a connection would count as time the origin takes to answer.
            limit=0,
            socket_factory=self._socket,
            happy_eyeballs_delay=None,  # addresses one by one: a refused one then ends the attempt
            use_dns_cache=False,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # Content-Length counts the bytes as sent
            trust_env=False,
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self._settings.connect_timeout_s,
                sock_read=self._settings.read_timeout_s,
            ),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(self, origin: str, access: Access) -> AsyncIterator[Opened | Unchanged]:
        """GET the origin, following at most `ingest.max_redirects` redirects.

        Credentials, as HTTP's Basic (RFC 7617, in UTF-8), go to the origin's own scheme, host and
        port only, wherever it redirects to. Raises InvalidInput (not an address) and
        OriginUnavailable (status, time-out, refused address, broken off).
        """
        url = _parse(origin)
        authorization = _authorization(access)
        try:
            async with self._answer(url, authorization, access.known_etag) as response:
                yield _opened(response, access.known_etag)
        except aiohttp.ConnectionTimeoutError as error:
            seconds = self._settings.connect_timeout_s
            raise OriginUnavailable(
                f"The origin could not be reached within {seconds:g} s.", code="origin_timeout"
            ) from error
        except aiohttp.SocketTimeoutError as error:
            seconds = self._settings.read_timeout_s
            raise OriginUnavailable(
                f"The origin sent nothing for {seconds:g} s.", code="origin_timeout"
            ) from error
        except aiohttp.ClientError as error:
            raise _unavailable(error) from error

    @asynccontextmanager
    async def _answer(
        self, url: URL, authorization: str, known_etag: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first answer that is no redirect."""
        first = url.origin()
        for _ in range(self._settings.max_redirects + 1):
            headers = {"Authorization": authorization} if authorization else {}
            if url.origin() != first:
                headers = {}
            if known_etag:
                headers["If-None-Match"] = known_etag
            async with await self._get(url, headers) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = _redirected(url, response.headers.get("Location", ""))
        raise _redirects(f"The origin redirects more than {self._settings.max_redirects} times.")

    async def _get(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        assert self._session is not None, "used outside its context"  # noqa: S101  a programming error
        try:
            return await self._session.get(url, headers=headers, allow_redirects=False)
        except UnicodeError as error:  # as Python has it of a label that is empty or too long
            raise OriginUnavailable(
                "The origin's host name cannot be one.", retryable=False
            ) from error

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        return new_socket(info, self._permitted)


def _authorization(access: Access) -> str:
    if access.kind is not Kind.BASIC:
        return ""
    credentials = access.credentials
    if not credentials.user or not credentials.password:
        raise OriginUnavailable(
            "The origin strategy has no user and password.",
            retryable=False,
            code="origin_credentials",
        )
    pair = f"{credentials.user}:{credentials.password}".encode()
    return f"Basic {b64encode(pair).decode()}"


def _opened(response: aiohttp.ClientResponse, known_etag: str) -> Opened | Unchanged:
    if response.status == 304 and known_etag:
        return Unchanged(known_etag)
    if response.status != 200:
        raise OriginUnavailable(
            f"The origin answered {response.status}.",
            retryable=response.status >= 500 or response.status in _WORTH_A_RETRY,
            code=_CODES.get(response.status, "origin_unavailable"),
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise OriginUnavailable("The origin sent the file compressed.", retryable=False)
    etag = response.headers.get("ETag", "")
    return Opened(
        response.content.iter_chunked(CHUNK_BYTES),
        response.content_length,
        media_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        etag=etag if etag.startswith('"') else "",  # a weak one does not tell bytes from others
    )


def _as_written(text: str) -> URL:
    """The address, in its very spelling where that may be sent: it may be signed."""
    return URL(text, encoded=_SENDABLE.fullmatch(text) is not None)


def _parse(origin: str) -> URL:
    try:
        url = _as_written(origin)
        host = url.host
    except ValueError as error:
        raise InvalidInput("The origin is not a well-formed address.") from error
    if url.scheme not in ("http", "https") or not host:
        raise InvalidInput("The origin should be an address such as https://host/path.")
    if url.user is not None or url.password is not None:
        raise InvalidInput("An origin's address may not hold a user name or password.")
    return url


def _redirected(url: URL, location: str) -> URL:
    if not location:
        raise _redirects("The origin redirects without saying where to.")
    try:
        to = _parse(str(url.join(_as_written(location))))
    except (ValueError, InvalidInput) as error:
        raise _redirects(
            "The origin redirects to something that is not an HTTP address."
        ) from error
    if url.scheme == "https" and to.scheme == "http":
        raise _redirects("The origin redirects from HTTPS to plain HTTP.")
    return to


def _redirects(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_redirects")


def _unavailable(error: aiohttp.ClientError) -> OriginUnavailable:
    """Translate; the first class that fits."""
    table: list[tuple[type[aiohttp.ClientError], str, bool]] = [
        (aiohttp.InvalidURL, "The origin's address cannot be used.", False),
        (aiohttp.ClientConnectorDNSError, "The origin's host name is not known.", True),
        (aiohttp.ClientConnectorCertificateError, "The origin's certificate is not valid.", False),
        (aiohttp.ClientConnectorError, "The origin refused the connection.", True),
        (aiohttp.ClientPayloadError, "The origin broke off before the end of the file.", True),
        (aiohttp.ServerDisconnectedError, "The origin hung up without an answer.", True),
        (aiohttp.ClientResponseError, "The origin's answer is not valid HTTP.", False),
    ]
    for kind, public, retryable in table:
        if isinstance(error, kind):
            return OriginUnavailable(public, retryable=retryable)
    return OriginUnavailable("The origin could not be read.")
