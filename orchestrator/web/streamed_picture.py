"""Answers with a large file of a store without reading it into memory: conditions, one range,
HEAD.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import web
from multidict import CIMultiDict

from orchestrator.routing.delivery_types import Delivery
from orchestrator.storage.store import ObjectStream
from orchestrator.web.conditional_requests import ByteRange, evaluate_conditions, select_range
from orchestrator.web.responses import (
    OUTCOME,
    REQUEST_ID,
    delivery_headers,
    empty_response,
    not_modified_headers,
    read_conditions,
)

OpenRange = Callable[[int, int], AbstractAsyncContextManager[ObjectStream]]
"""Opens (first byte, number of bytes) of the file."""


async def stream(
    request: web.Request, delivery: Delivery, size: int, open_range: OpenRange
) -> web.StreamResponse:
    """Send a file of `size` bytes; `delivery` has its headers and no body. Raises what `open_range`
    raises.
    """
    request[OUTCOME] = delivery
    headers = delivery_headers(delivery)
    fields = read_conditions(request)
    match evaluate_conditions(fields, delivery.etag, delivery.last_modified):
        case "failed":
            return empty_response(412, headers)
        case "not-modified":
            return web.Response(status=304, headers=CIMultiDict(not_modified_headers(headers)))
        case "proceed":
            wanted = select_range(fields, delivery.etag, delivery.last_modified, size)
    if wanted == "unsatisfiable":
        return empty_response(416, [*headers, ("Content-Range", f"bytes */{size}")])
    status, first, length = 200, 0, size
    if isinstance(wanted, ByteRange):
        status, first, length = 206, wanted.start, wanted.stop - wanted.start
        headers.append(("Content-Range", f"bytes {wanted.start}-{wanted.stop - 1}/{size}"))
    response = web.StreamResponse(status=status, headers=CIMultiDict(headers))
    response.content_length = length
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    if request.method == "HEAD":
        return response
    async with open_range(first, length) as body:
        await response.prepare(request)
        async for chunk in body:
            await response.write(chunk)
    await response.write_eof()
    return response
