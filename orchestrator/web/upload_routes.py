"""Handlers of the upload routes: they check who asks, read the request, call the services of
uploads, and turn the result into an HTTP response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from orchestrator.cache.hot.tier import HotTier
from orchestrator.catalog.uploads import Upload, cache_group
from orchestrator.errors import InvalidInput, Unprocessable
from orchestrator.iiif.negotiation import accepted_picture_formats
from orchestrator.routing.delivery_types import Delivery
from orchestrator.settings import Settings
from orchestrator.uploads.active_pictures import ActivePicture
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.turning import parse_rotation
from orchestrator.uploads.uploads_factory import UploadServices
from orchestrator.web.connection_deadlines import DeadlineProtocol
from orchestrator.web.hot_entries import HotEntry, store_hot
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import (
    ERROR_VARY,
    REQUEST_CLASS,
    respond,
)
from orchestrator.web.streamed_picture import stream
from orchestrator.web.upload_fields import Fields, one, read_fields, read_file, required

REQUEST_CLASS_NAME = "upload"
FORM_BYTES = 64 * 1024
"""What a multipart form may have besides the file."""
_INERT = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    ),
)
"""A browser that opens an SVG runs no script of it, and loads nothing."""


class UploadRoutes:
    """Handlers of the upload routes of one process."""

    def __init__(
        self,
        *,
        services: UploadServices,
        hot: HotTier[HotEntry],
        addresses: PublicAddressResolver,
        settings: Settings,
    ) -> None:
        self._services = services
        self._hot = hot
        self._addresses = addresses
        self._settings = settings.uploads
        self._vary = "Accept" if settings.uploads.background_formats else ""

    @property
    def prefix(self) -> str:
        """The path below which the routes are, with a slash at its end."""
        return self._settings.route_prefix.rstrip("/") + "/"

    async def ping(self, request: web.Request) -> web.StreamResponse:
        """Answer GET of `ping`."""
        request[REQUEST_CLASS] = REQUEST_CLASS_NAME
        return web.Response(text="Pong!", headers={"Cache-Control": "no-store"})

    async def expect(self, request: web.Request) -> None:
        """Let a client that asks before it sends a body send it, unless it is too large: then the
        handler answers at once.
        """
        if (request.content_length or 0) <= self._settings.max_bytes + FORM_BYTES:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the response has not begun

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `upload`: receive a picture."""
        request[REQUEST_CLASS] = REQUEST_CLASS_NAME
        self._services.access.check_origin(request.headers.get("Origin", ""))
        intake = self._services.intake
        try:
            expected = max(0, (request.content_length or 0) - FORM_BYTES)
            self._services.permits.check(
                request.headers.get("Authorization", ""), self._addresses.client_address(request)
            )
            async with intake.work_folder(expected) as folder, aclosing(read_file(request)) as file:
                received = await intake.receive(folder, file)
                with unreadable_is_invalid():
                    upload = await intake.accept(received)
        finally:
            if not request.content.at_eof() and isinstance(request.protocol, DeadlineProtocol):
                request.protocol.refuse_body()
        return _json(describe_upload(upload))

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `publish`."""
        fields = await self._authorised(request)
        upload = await self._changed(
            self._services.publisher.publish(required(fields, "filename"), _crop(fields))
        )
        self._hot.drop_asset(cache_group(upload.name))
        return _json({"success": True, "filename": upload.key})

    async def recrop(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `recrop`: the picture under a new name, with other versions."""
        fields = await self._authorised(request)
        upload = await self._changed(
            self._services.publisher.recrop(required(fields, "filename"), _crop(fields))
        )
        return _json({"success": True, "filename": upload.key})

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `rotate`: the picture turned, under a new name."""
        fields = await self._authorised(request)
        before = required(fields, "filename")
        quarters = parse_rotation(one(fields, "rotation"))
        upload = await self._changed(self._services.publisher.rotate(before, quarters))
        self._hot.drop_asset(cache_group(PictureKey.parse(before).name))
        return _json({"success": True, "filename": upload.key})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `delete`."""
        fields = await self._authorised(request)
        names = [*fields.get("filenames", ()), *fields.get("filename", ())]
        if not names:
            raise InvalidInput("filenames is missing.")
        await self._services.publisher.delete(names)
        for name in names:
            self._hot.drop_asset(cache_group(PictureKey.parse(name).name))
        return _json({"success": True})

    async def active(self, request: web.Request) -> web.StreamResponse:
        """Answer GET or HEAD of `active/{key}`."""
        request[REQUEST_CLASS] = REQUEST_CLASS_NAME
        request[ERROR_VARY] = self._vary
        token = self._hot.token()
        accepted: tuple[str, ...] = ()
        if self._vary:
            accepted = accepted_picture_formats(", ".join(request.headers.getall("Accept", ())))
        pictures = self._services.pictures
        picture = await pictures.get(unquote(request.match_info["key"]), accepted)
        delivery = self._delivery(picture)
        info = picture.info
        if info is not None:
            return await stream(
                request,
                delivery,
                info.bytes,
                lambda start, length: pictures.open(info, start, length),
            )
        base = self._addresses.resolve_request(request).base
        store_hot(self._hot, request, base, delivery, token)
        return respond(request, delivery)

    def _delivery(self, picture: ActivePicture) -> Delivery:
        key = picture.key
        return Delivery(
            status=200,
            body=picture.body or b"",
            media_type=key.media_type,
            tier=picture.tier,
            request_class=REQUEST_CLASS_NAME,
            cache_control=self._settings.cache_control,
            last_modified=picture.modified,
            headers=_INERT if key.extension == "svg" else (),
            surrogate_keys=(f"upload-{key.name}",),
            # The change of a picture that is not recorded is not announced.
            public=picture.is_recorded,
            vary=self._vary if key.version else "",
            hot_group=picture.group,
            etag=picture.info.etag if picture.info else "",
            product=picture.product,
        )

    async def _authorised(self, request: web.Request) -> Fields:
        """The fields of a request that may change pictures. Raises NotAuthorised, Forbidden,
        InvalidInput.
        """
        request[REQUEST_CLASS] = REQUEST_CLASS_NAME
        access = self._services.access
        access.check_origin(request.headers.get("Origin", ""))
        fields = await read_fields(request)
        access.check_secret(one(fields, "secret"), request.headers.get("Authorization", ""))
        return fields

    async def _changed(self, change: Awaitable[Upload]) -> Upload:
        """Wait for a change. A picture that cannot be decoded is a mistake of the caller."""
        with unreadable_is_invalid():
            return await change


def describe_upload(upload: Upload) -> dict[str, Any]:
    """What the client of an upload is answered."""
    return {
        "success": True,
        "filename": upload.key,
        "width": upload.width,
        "height": upload.height,
        "sha256": upload.sha256,
    }


@contextmanager
def unreadable_is_invalid() -> Iterator[None]:
    """Clients of the replaced service know 400 for whatever is no picture."""
    try:
        yield
    except Unprocessable as error:
        raise InvalidInput(error.public) from error


def _crop(fields: Fields) -> str:
    """The crop of a request. Where a client did not encode the plus signs in a form, they are
    spaces.
    """
    return one(fields, "crop").replace(" ", "+")


def _json(document: Mapping[str, object]) -> web.Response:
    return web.json_response(document, headers={"Cache-Control": "no-store"})
