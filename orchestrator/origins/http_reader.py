"""HTTP(S) origins: one GET, with limits on connection time, silence and redirects.

The address of each socket is checked when the socket is created, and it is the very address the
socket connects to. A change of the DNS between look-up and connection (DNS rebinding) has no
effect.
"""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.origins.checked_sockets import AddressRule, address_rule, create_socket
from orchestrator.origins.download import CHUNK_BYTES
from orchestrator.origins.network_rules import is_public
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.reader_types import NotModified, OriginAccess, OriginStream
from orchestrator.settings import Ingest
from orchestrator.work_context import work_context

_REDIRECTS = {301, 302, 303, 307, 308}
_TEMPORARY = {408, 425, 429}
_SENDABLE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
"""The characters of RFC 3986, section 2."""
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

    def __init__(self, settings: Ingest, is_permitted: AddressRule = is_public) -> None:
        """`is_permitted` is not asked if `ingest.allow_private_addresses` is set."""
        self._settings = settings
        self._is_permitted = address_rule(settings, is_permitted)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        connector = aiohttp.TCPConnector(
            # No limit here: `jobs.fetches` and `jobs.per_host` limit the concurrent reads, and time
            # spent waiting for a connection would count as time the origin takes to answer.
            limit=0,
            socket_factory=self._create_socket,
            # One address after the other, so that a refused address ends the attempt.
            happy_eyeballs_delay=None,
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
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(
        self, origin: str, access: OriginAccess
    ) -> AsyncIterator[OriginStream | NotModified]:
        """GET the origin, following at most `ingest.max_redirects` redirects.

        Credentials are sent as Basic authentication (RFC 7617, in UTF-8), and only to the origin's
        own scheme, host and port; a redirect to another one gets none. Raises InvalidInput (not an
        address) and OriginUnavailable (status, timeout, refused address, incomplete answer).
        """
        url = _parse(origin)
        authorization = _authorization(access)
        try:
            async with self._follow(url, authorization, access.known_etag) as response:
                yield _open_response(response, access.known_etag)
        except aiohttp.ConnectionTimeoutError as error:
            seconds = self._settings.connect_timeout_s
            raise OriginUnavailable(
                f"The origin could not be reached within {seconds:g} s. Try again later.",
                code="origin_timeout",
            ) from error
        except aiohttp.SocketTimeoutError as error:
            seconds = self._settings.read_timeout_s
            raise OriginUnavailable(
                f"The origin sent nothing for {seconds:g} s. Try again later.",
                code="origin_timeout",
            ) from error
        except aiohttp.ClientError as error:
            raise _client_fault(error) from error

    @asynccontextmanager
    async def _follow(
        self, url: URL, authorization: str, known_etag: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Follow redirects; yields the first response that is not a redirect."""
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
                url = _redirect_target(url, response.headers.get("Location", ""))
        raise _redirect_fault(
            f"The origin redirects more than {self._settings.max_redirects} times."
        )

    async def _get(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        assert self._session is not None, "used outside its context"  # noqa: S101  a programming error
        try:
            named = work_context().headers() | headers
            return await self._session.get(url, headers=named, allow_redirects=False)
        except UnicodeError as error:  # the codec's error for a label that is empty or too long
            raise OriginUnavailable(
                "The origin's host name is not valid. Check the address.", retryable=False
            ) from error

    def _create_socket(self, info: tuple[Any, ...]) -> socket.socket:
        return create_socket(info, self._is_permitted)


def _authorization(access: OriginAccess) -> str:
    if access.kind is not OriginKind.BASIC:
        return ""
    credentials = access.credentials
    if not credentials.user or not credentials.password:
        raise OriginUnavailable(
            "The credentials of the origin strategy need user and password.",
            retryable=False,
            code="origin_credentials",
        )
    pair = f"{credentials.user}:{credentials.password}".encode()
    return f"Basic {b64encode(pair).decode()}"


def _open_response(response: aiohttp.ClientResponse, known_etag: str) -> OriginStream | NotModified:
    if response.status == 304 and known_etag:
        return NotModified(known_etag)
    if response.status != 200:
        raise _status_fault(response.status)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise OriginUnavailable(
            "The origin sent the file compressed (Content-Encoding). It must send it as it is.",
            retryable=False,
        )
    etag = response.headers.get("ETag", "")
    return OriginStream(
        response.content.iter_chunked(CHUNK_BYTES),
        response.content_length,
        media_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        etag=etag if etag.startswith('"') else "",  # a weak ETag does not identify the bytes
    )


def _status_fault(status: int) -> OriginUnavailable:
    code = _CODES.get(status, "origin_unavailable")
    is_temporary = status >= 500 or status in _TEMPORARY
    if is_temporary:
        advice = "Try again later."
    elif code == "origin_refused":
        advice = "Check the credentials of the origin strategy."
    else:
        advice = "Check the address."
    return OriginUnavailable(
        f"The origin answered {status}. {advice}", retryable=is_temporary, code=code
    )


def _as_written(text: str) -> URL:
    """Return the address in its own spelling if that can be sent, because it may be signed."""
    return URL(text, encoded=_SENDABLE.fullmatch(text) is not None)


def _parse(origin: str) -> URL:
    try:
        url = _as_written(origin)
        host = url.host
    except ValueError as error:
        raise InvalidInput("The origin is not a well-formed address.") from error
    if url.scheme not in ("http", "https") or not host:
        raise InvalidInput("The origin must be an address such as https://host/path.")
    if url.user is not None or url.password is not None:
        raise InvalidInput(
            "The origin's address must not contain a user name or password. "
            "Give them as credentials of an origin strategy."
        )
    return url


def _redirect_target(url: URL, location: str) -> URL:
    if not location:
        raise _redirect_fault("The origin sent a redirect without a Location.")
    try:
        target = _parse(str(url.join(_as_written(location))))
    except (ValueError, InvalidInput) as error:
        raise _redirect_fault(
            "The origin redirects to an address that is not an HTTP address."
        ) from error
    if url.scheme == "https" and target.scheme == "http":
        raise _redirect_fault("The origin redirects from HTTPS to plain HTTP.")
    return target


def _redirect_fault(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_redirects")


def _client_fault(error: aiohttp.ClientError) -> OriginUnavailable:
    """Return the fault for the first matching class of the table."""
    for kind, public, retryable in _CLIENT_FAULTS:
        if isinstance(error, kind):
            return OriginUnavailable(public, retryable=retryable)
    return OriginUnavailable("The origin could not be read. Try again later.")


_CLIENT_FAULTS: tuple[tuple[type[aiohttp.ClientError], str, bool], ...] = (
    (aiohttp.InvalidURL, "The origin's address is not valid.", False),
    (
        aiohttp.ClientConnectorDNSError,
        "The origin's host name is not known. Check the address.",
        True,
    ),
    (aiohttp.ClientConnectorCertificateError, "The origin's certificate is not valid.", False),
    (
        aiohttp.ClientConnectorError,
        "The origin refused the connection. Check the address and the port.",
        True,
    ),
    (
        aiohttp.ClientPayloadError,
        "The origin closed the connection before the end of the file. Try again later.",
        True,
    ),
    (
        aiohttp.ServerDisconnectedError,
        "The origin closed the connection without an answer. Try again later.",
        True,
    ),
    (aiohttp.ClientResponseError, "The origin's answer is not valid HTTP.", False),
)
"""The class of an error, the public sentence, and whether a retry may help."""
