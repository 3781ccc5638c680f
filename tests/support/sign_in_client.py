"""A client with the cookies of one user, as far as they matter to sign-in: it follows no redirect,
and sends forms like a browser.
"""

from __future__ import annotations

import html
import json
import re
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL


class Answer:
    """A whole answer."""

    def __init__(self, status: int, headers: CIMultiDictProxy[str], text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def cookies(self) -> list[str]:
        """The Set-Cookie headers."""
        return self.headers.getall("Set-Cookie", [])

    @property
    def message(self) -> Any:
        """What the page of a token service posts."""
        found = re.search(r'data-message="([^"]*)"', self.text)
        assert found, self.text
        return json.loads(html.unescape(found[1]))


class SignInClient:
    """`async with SignInClient(base) as client`; `base` is put before paths."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True), raise_for_status=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._send("GET", path, headers)

    async def post(
        self, path: str, fields: dict[str, str], *, sender: str = "", **headers: str
    ) -> Answer:
        """Send a form; `sender` is the origin of the page that has it, by default the server's."""
        return await self._send("POST", path, {"Origin": sender or self._base, **headers}, fields)

    async def _send(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str] | None = None
    ) -> Answer:
        address = path if path.startswith("http") else self._base + path
        wire = {"Accept": "text/html", **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self._session.request(
            method,
            URL(address, encoded=True),
            headers=wire,
            data=fields,
            allow_redirects=False,
        ) as response:
            text = await response.text(errors="replace")
            return Answer(response.status, response.headers, text)

    def cookie_names(self) -> set[str]:
        return {each.key for each in self._session.cookie_jar}
