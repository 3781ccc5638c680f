"""Resumable uploads: the tus protocol 1.0.0 with creation, creation with upload, expiration,
checksum and termination.

The file of a finished upload is received like that of any other upload. A GET of the upload's
address then answers what the upload itself answers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from orchestrator.errors import InvalidInput, NotFound, PreconditionFailed, UnsupportedMedia
from orchestrator.uploads.partial_files import PartialUpload
from orchestrator.uploads.partial_uploads import Checksum
from orchestrator.uploads.uploads_factory import UploadServices
from orchestrator.web.connection_deadlines import DeadlineProtocol
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import ERROR_HEADERS, REQUEST_CLASS
from orchestrator.web.upload_routes import describe_upload, unreadable_is_invalid

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
CHECKSUM_ALGORITHMS = ("sha1", "sha256", "md5")
MAX_METADATA_CHARACTERS = 4096
_METHODS = "POST, GET, HEAD, PATCH, DELETE, OPTIONS"
_OVERRIDE = "X-HTTP-Method-Override"
_REQUEST_HEADERS = (
    "Authorization, Content-Type, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, "
    f"Upload-Checksum, X-Request-Id, X-Requested-With, {_OVERRIDE}"
)
_COMMON = (("Tus-Resumable", VERSION), ("Cache-Control", "no-store"))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TusRoutes:
    """Handlers of the resumable uploads of one process."""

    def __init__(
        self,
        services: UploadServices,
        addresses: PublicAddressResolver,
        *,
        path: str,
        max_bytes: int,
    ) -> None:
        """`path` is the path at which uploads are created."""
        self._services = services
        self._partial = services.partial
        self._addresses = addresses
        self._path = path
        self._max_bytes = max_bytes

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        each = f"{self._path}/{{upload}}"
        router.add_post(self._path, self.create)
        router.add_post(each, self.override)
        router.add_get(each, self.show, allow_head=False)
        router.add_head(each, self.head)
        router.add_patch(each, self.append)
        router.add_delete(each, self.cancel)
        for path in (self._path, each):
            router.add_options(path, self.options)

    async def options(self, _: web.Request) -> web.StreamResponse:
        """Answer what the server supports, and the preflight of browsers."""
        return web.Response(
            status=204,
            headers={
                "Tus-Resumable": VERSION,
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(self._max_bytes),
                "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _REQUEST_HEADERS,
                "Access-Control-Max-Age": "86400",
                "Allow": _METHODS,
            },
        )

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Answer POST: begin an upload; the body may be its first bytes."""
        self._begin(request)
        self._services.permits.check(
            request.headers.get("Authorization", ""), self._addresses.client_address(request)
        )
        length = self._announced_length(request)
        metadata = request.headers.get("Upload-Metadata", "")
        if len(metadata) > MAX_METADATA_CHARACTERS:
            raise InvalidInput("Upload-Metadata is too long.")
        upload = await self._partial.create(length, metadata)
        if request.body_exists:
            _check_media_type(request)
            upload = await self._append(request, upload.id, 0)
        base = self._addresses.resolve_request(request).base
        headers = _state(upload) | {"Location": f"{base}{self._path}/{upload.id}"}
        return web.Response(status=201, headers=headers)

    async def append(self, request: web.Request) -> web.StreamResponse:
        """Answer PATCH: bytes that follow those received so far."""
        self._begin(request)
        _check_media_type(request)
        offset = _count(request, "Upload-Offset")
        upload = await self._append(request, request.match_info["upload"], offset)
        return web.Response(status=204, headers=_state(upload))

    async def head(self, request: web.Request) -> web.StreamResponse:
        """Answer HEAD: how much was received. A whole file that could not be received then, for
        example because the database was away, is received now.
        """
        self._begin(request)
        upload = await self._finished(await self._partial.find(request.match_info["upload"]))
        headers = _state(upload) | {"Upload-Length": str(upload.length)}
        if upload.metadata:
            headers["Upload-Metadata"] = upload.metadata
        return web.Response(status=200, headers=headers)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer GET: what the client of an upload is answered."""
        request[REQUEST_CLASS] = "upload"
        upload = await self._finished(await self._partial.find(request.match_info["upload"]))
        if upload.result is None:
            raise NotFound("The upload is not complete.")
        return web.json_response(upload.result, headers=dict(_COMMON))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Answer DELETE: forget the upload. A received picture stays."""
        self._begin(request)
        await self._partial.delete(request.match_info["upload"])
        return web.Response(status=204, headers=dict(_COMMON))

    async def override(self, request: web.Request) -> web.StreamResponse:
        """Answer POST with the method of X-HTTP-Method-Override, for clients that can send no other
        method.
        """
        handlers: Mapping[str, Handler] = {
            "PATCH": self.append,
            "DELETE": self.cancel,
            "HEAD": self.head,
        }
        method = request.headers.get(_OVERRIDE, "").upper()
        if method not in handlers:
            raise web.HTTPMethodNotAllowed("POST", ("GET", "HEAD", "PATCH", "DELETE"))
        return await handlers[method](request)

    def _begin(self, request: web.Request) -> None:
        request[REQUEST_CLASS] = "upload"
        self._services.access.check_origin(request.headers.get("Origin", ""))
        request[ERROR_HEADERS] = (("Tus-Resumable", VERSION),)
        if request.headers.get("Tus-Resumable") != VERSION:
            request[ERROR_HEADERS] = (("Tus-Version", VERSION),)
            raise PreconditionFailed(f"The server supports tus {VERSION}. Set Tus-Resumable.")

    def _announced_length(self, request: web.Request) -> int:
        if "Upload-Defer-Length" in request.headers:
            raise InvalidInput("The length must be known. Send Upload-Length.")
        length = _count(request, "Upload-Length")
        if length > self._max_bytes:
            raise web.HTTPRequestEntityTooLarge(self._max_bytes, length)
        if not length:
            raise InvalidInput("The file is empty.")
        return length

    async def _append(self, request: web.Request, upload_id: str, offset: int) -> PartialUpload:
        try:
            upload = await self._partial.append(
                upload_id, offset, partial(_read, request), _checksum(request)
            )
        finally:
            if not request.content.at_eof() and isinstance(request.protocol, DeadlineProtocol):
                request.protocol.refuse_body()
        return await self._finished(upload)

    async def _finished(self, upload: PartialUpload) -> PartialUpload:
        if upload.is_whole and upload.result is None:
            return await self._partial.finish(upload.id, self._receive)
        return upload

    async def _receive(self, path: Path) -> dict[str, Any]:
        with unreadable_is_invalid():
            return describe_upload(await self._services.intake.receive_file(path))


def _state(upload: PartialUpload) -> dict[str, str]:
    return {
        **dict(_COMMON),
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": formatdate(upload.expires, usegmt=True),
    }


async def _read(request: web.Request) -> bytes:
    """The next bytes of the body. Raises InvalidInput if the client is gone."""
    try:
        return await request.content.readany()
    except (ConnectionError, HttpProcessingError, web.RequestPayloadError) as error:
        raise InvalidInput("The body ends early. Resume the upload.") from error


def _count(request: web.Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InvalidInput(f"{name} should be a number of bytes.")
    return int(text)


def _check_media_type(request: web.Request) -> None:
    if request.content_type != MEDIA_TYPE:
        raise UnsupportedMedia(f"Send the bytes as {MEDIA_TYPE}.")


def _checksum(request: web.Request) -> Checksum | None:
    text = request.headers.get("Upload-Checksum", "")
    if not text:
        return None
    algorithm, _, encoded = text.partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("Upload-Checksum should be: algorithm, blank, base64.") from error
    if algorithm not in CHECKSUM_ALGORITHMS or len(digest) != hashlib.new(algorithm).digest_size:
        raise InvalidInput(f"Upload-Checksum should be of {', '.join(CHECKSUM_ALGORITHMS)}.")
    return Checksum(algorithm, digest)
