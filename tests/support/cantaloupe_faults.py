"""The faults of Cantaloupe as an upstream, each a way to send an answer that a proxy must not
trust.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from PIL import Image

from tests.support.cantaloupe_answers import VERSION

_PAGE = (
    b"500 Internal Server Error\n\nIOException: /opt/images/secret.jp2\n\tat edu.illinois.library\n"
)


@dataclass
class Answer:
    """An answer before it is sent. It is chunked, as everything larger than the buffer of the
    server, unless `sized`.
    """

    status: int
    headers: dict[str, str]
    media_type: str
    body: bytes
    sized: bool = False
    reason: str = ""

    def start(self) -> web.StreamResponse:
        """The response with its headers, not sent yet."""
        headers = {"X-Powered-By": VERSION, "Server": "Jetty(11.0.17)", **self.headers}
        if self.status == 400 and "Connection" in headers:
            del headers["X-Powered-By"]
        if self.media_type:
            headers["Content-Type"] = self.media_type
        response = web.StreamResponse(
            status=self.status, reason=self.reason or None, headers=headers
        )
        if self.sized:
            response.content_length = len(self.body) if self.status != 204 else None
        else:
            response.enable_chunked_encoding()
        return response

    async def send(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send it whole."""
        return await _send(request, self)


Fault = Callable[[web.BaseRequest, Answer, threading.Event], Awaitable[web.StreamResponse]]


async def _send(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = answer.start()
    await response.prepare(request)
    if request.method != "HEAD" and answer.body:
        await response.write(answer.body)
    await response.write_eof()
    return response


def _with_body(change: Callable[[bytes], bytes]) -> Fault:
    async def fault(
        request: web.BaseRequest, answer: Answer, _: threading.Event
    ) -> web.StreamResponse:
        answer.body = change(answer.body)
        return await _send(request, answer)

    return fault


def _encoded(form: str, size: tuple[int, int] | None = None) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        file = io.BytesIO()
        picture = Image.open(io.BytesIO(body)).convert("RGB")
        (picture.resize(size) if size else picture).save(file, form)
        return file.getvalue()

    return change


async def _hang(
    request: web.BaseRequest, answer: Answer, gate: threading.Event
) -> web.StreamResponse:
    """Accept and say nothing, as a server does whose threads all hang."""
    while not gate.is_set():
        await asyncio.sleep(0.02)
    return await _send(request, answer)


async def _drip(
    request: web.BaseRequest, answer: Answer, gate: threading.Event
) -> web.StreamResponse:
    """Send a byte now and then, so that no single read ever waits long."""
    response = answer.start()
    await response.prepare(request)
    for at in range(len(answer.body)):
        if gate.is_set():
            break
        await response.write(answer.body[at : at + 1])
        await asyncio.sleep(0.05)
    return response


async def _cut(request: web.BaseRequest, answer: Answer, _: threading.Event) -> web.StreamResponse:
    """Close the connection in the middle of the chunks."""
    response = answer.start()
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    _close(request)
    return response


async def _wrong_length(
    request: web.BaseRequest, answer: Answer, _: threading.Event
) -> web.StreamResponse:
    """State more bytes than are sent."""
    response = web.StreamResponse(headers={**answer.headers, "Content-Type": answer.media_type})
    response.content_length = len(answer.body) + 1000
    await response.prepare(request)
    await response.write(answer.body)
    _close(request)
    return response


class _IdleReset:
    """Close a connection that was idle, in the moment of its next request. The request after that
    is answered, on whichever connection it comes.
    """

    def __init__(self) -> None:
        self._used: set[object] = set()
        self._is_next_answered = False

    async def __call__(
        self, request: web.BaseRequest, answer: Answer, _: threading.Event
    ) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        self._is_next_answered = peer in self._used and not self._is_next_answered
        if self._is_next_answered:
            request.transport.abort()
            return web.Response()
        self._used.add(peer)
        return await _send(request, answer)


async def _redirect(
    request: web.BaseRequest, answer: Answer, _: threading.Event
) -> web.StreamResponse:
    """Send the client to an address of the inner network, with a month of caching."""
    answer.status, answer.body, answer.media_type = 303, b"", ""
    answer.headers["Location"] = "http://10.0.0.7:8182/iiif/3/secret/info.json"
    return await _send(request, answer)


async def _status_500(
    request: web.BaseRequest, answer: Answer, _: threading.Event
) -> web.StreamResponse:
    """An error page that names server paths."""
    answer.status, answer.body = 500, _PAGE
    return await _send(request, answer)


async def _text(request: web.BaseRequest, answer: Answer, _: threading.Event) -> web.StreamResponse:
    """An error page with status 200."""
    answer.media_type, answer.body = "text/plain;charset=utf-8", _PAGE
    return await _send(request, answer)


def _close(request: web.BaseRequest) -> None:
    assert request.transport is not None
    request.transport.close()


FAULTS: dict[str, Fault] = {
    "empty": _with_body(lambda _: b""),
    "half": _with_body(lambda body: body[: len(body) // 2]),
    "poisoned tail": _with_body(lambda body: body[: len(body) // 2] + _PAGE),
    "poisoned after the end": _with_body(lambda body: body + _PAGE),
    "wrong format": _with_body(_encoded("GIF")),
    "wrong size": _with_body(_encoded("JPEG", (64, 64))),
    "cut chunks": _cut,
    "wrong length": _wrong_length,
    "hang": _hang,
    "drip": _drip,
    "idle reset": _IdleReset(),
    "redirect": _redirect,
    "status 500": _status_500,
    "text": _text,
}
