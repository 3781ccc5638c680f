"""HTTP(S) origins: one GET to private scratch, bounded in bytes, time and redirects.

Each socket is checked against `addresses.is_public` at the moment it is made, with the very address
it will be connected to: nothing that happens between look-up and connection (DNS rebinding)
matters.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from orchestrator.errors import InvalidInput, OriginUnavailable
from orchestrator.ingest.addresses import is_public
from orchestrator.ingest.origins import Fetched
from orchestrator.ingest.receive import CHUNK_BYTES, receive
from orchestrator.settings import Ingest

_REDIRECTS = {301, 302, 303, 307, 308}
_WORTH_A_RETRY = {408, 425, 429}
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "orchestrator"}


class HttpFetcher:
    """Fetches http and https origins. An async context manager: it owns a connection pool."""

    def __init__(self, settings: Ingest, permitted: Callable[[str], bool] = is_public) -> None:
        """`permitted` judges numeric addresses unless `ingest.allow_private_addresses`."""
        self._settings = settings
        self._permitted = permitted
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        connector = aiohttp.TCPConnector(
            limit=64,
            limit_per_host=8,
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

    async def fetch(self, origin: str, target: Path) -> Fetched:
        """GET the origin into the new file `target`, following at most `ingest.max_redirects`
        redirects.

        Raises InvalidInput (not an address), OriginUnavailable (status, time-out, refused address,
        broken off), TooLarge, Unprocessable (HTML, empty).
        """
        url = _parse(origin)
        limit_s = self._settings.total_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._follow(url, target)
        except aiohttp.ConnectionTimeoutError as error:
            seconds = self._settings.connect_timeout_s
            raise OriginUnavailable(
                f"The origin could not be reached within {seconds:g} s."
            ) from error
        except aiohttp.SocketTimeoutError as error:
            seconds = self._settings.read_timeout_s
            raise OriginUnavailable(f"The origin sent nothing for {seconds:g} s.") from error
        except TimeoutError as error:
            raise OriginUnavailable(f"The origin took longer than {limit_s:g} s.") from error
        except aiohttp.ClientError as error:
            raise _unavailable(error) from error

    async def _follow(self, url: URL, target: Path) -> Fetched:
        assert self._session is not None, "used outside its context"  # noqa: S101  a programming error
        for _ in range(self._settings.max_redirects + 1):
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._body(response, target)
                url = _redirected(url, response.headers.get("Location", ""))
        raise OriginUnavailable(
            f"The origin redirects more than {self._settings.max_redirects} times.", retryable=False
        )

    async def _body(self, response: aiohttp.ClientResponse, target: Path) -> Fetched:
        if response.status != 200:
            raise OriginUnavailable(
                f"The origin answered {response.status}.",
                retryable=response.status >= 500 or response.status in _WORTH_A_RETRY,
            )
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise OriginUnavailable("The origin sent the file compressed.", retryable=False)
        received = await receive(
            response.content.iter_chunked(CHUNK_BYTES),
            target,
            max_bytes=self._settings.max_bytes,
            expected=response.content_length,
        )
        return Fetched(
            target,
            received.bytes,
            received.sha256,
            fingerprint=received.sha256,
            media_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            etag=response.headers.get("ETag", ""),
        )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._settings.allow_private_addresses and not self._permitted(str(address[0])):
            raise OriginUnavailable(
                "The origin's address is not on the public internet "
                "(ingest.allow_private_addresses permits it).",
                retryable=False,
            )
        return socket.socket(family=family, type=kind, proto=protocol)


def _parse(origin: str) -> URL:
    try:
        url = URL(origin)
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
        raise OriginUnavailable("The origin redirects without saying where to.", retryable=False)
    try:
        to = _parse(str(url.join(URL(location))))
    except (ValueError, InvalidInput) as error:
        raise OriginUnavailable(
            "The origin redirects to something that is not an HTTP address.", retryable=False
        ) from error
    if url.scheme == "https" and to.scheme == "http":
        raise OriginUnavailable("The origin redirects from HTTPS to plain HTTP.", retryable=False)
    return to


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
