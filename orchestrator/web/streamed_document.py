"""Answers with a document that is written piece by piece: conditions, HEAD, gzip. The whole of it
is never in memory, so it has no Content-Length and no ranges.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from aiohttp import web
from multidict import CIMultiDict

from orchestrator.iiif.negotiation import accepts_gzip
from orchestrator.loop_turns import in_turns
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.conditional_requests import evaluate_conditions
from orchestrator.web.responses import (
    OUTCOME,
    REQUEST_ID,
    delivery_headers,
    empty_response,
    not_modified_headers,
    read_conditions,
)

_GZIP = 31
"""`wbits` of zlib for the gzip format."""
_LEVEL = 4
"""Manifests repeat themselves: level 6 takes twice the time and saves a tenth."""


async def send_document(
    request: web.Request, delivery: Delivery, pieces: Iterator[bytes]
) -> web.StreamResponse:
    """Send the pieces of a document; `delivery` has its headers and ETag, and no body. Other
    requests are answered between the pieces.
    """
    request[OUTCOME] = delivery
    accepted = ", ".join(request.headers.getall("Accept-Encoding", ()))
    compressed = accepts_gzip(accepted)
    headers = [
        pair
        for pair in delivery_headers(delivery, compressed=compressed)
        if pair[0] != "Accept-Ranges"
    ]
    etag = delivery.gzip_etag if compressed else delivery.etag
    match evaluate_conditions(read_conditions(request), etag, delivery.last_modified):
        case "failed":
            return empty_response(412, headers)
        case "not-modified":
            return web.Response(status=304, headers=CIMultiDict(not_modified_headers(headers)))
        case "proceed":
            pass
    response = web.StreamResponse(headers=CIMultiDict(headers))
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    if request.method == "HEAD":
        return response
    await response.prepare(request)
    # A write to a fast client does not wait, so other tasks would not run.
    async for piece in in_turns(compressed_pieces(pieces) if compressed else pieces):
        if piece:
            await response.write(piece)
    await response.write_eof()
    return response


def compressed_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What each piece adds to the compressed document: often nothing yet."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for count, piece in enumerate(pieces):
        # The first piece is flushed: the client reads it while the others are made.
        data = compressor.compress(piece)
        if count == 0:
            data += compressor.flush(zlib.Z_SYNC_FLUSH)
        yield data
    yield compressor.flush()
