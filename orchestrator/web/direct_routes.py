"""The page for uploads, and uploads that clients store in the bucket themselves."""

from __future__ import annotations

from aiohttp import web

from orchestrator.errors import NotFound
from orchestrator.settings import Uploads
from orchestrator.uploads.direct_uploads import DirectUploads
from orchestrator.uploads.uploads_factory import UploadServices
from orchestrator.web.page_templates import Pages, page_policy
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import REQUEST_CLASS
from orchestrator.web.upload_fields import one, read_fields, required
from orchestrator.web.upload_routes import describe_upload, unreadable_is_invalid
from orchestrator.web.uploads_page import uploads_page_values

_NO_STORE = {"Cache-Control": "no-store"}


class DirectRoutes:
    """Handlers of `uploads`, `presign` and `complete` of one process."""

    def __init__(
        self,
        services: UploadServices,
        addresses: PublicAddressResolver,
        *,
        pages: Pages,
        settings: Uploads,
    ) -> None:
        self._services = services
        self._addresses = addresses
        self._pages = pages
        self._prefix = settings.route_prefix.rstrip("/") + "/"
        self._values = uploads_page_values(settings)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get(f"{self._prefix}uploads", self.show)
        router.add_post(f"{self._prefix}presign", self.presign)
        router.add_post(f"{self._prefix}complete", self.complete)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer GET of `uploads` with the page."""
        request[REQUEST_CLASS] = "page"
        base = self._addresses.resolve_request(request).base
        return web.Response(
            body=self._pages.render("uploads.html", base, prefix=self._prefix, **self._values),
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": page_policy(), "Cache-Control": "no-cache"},
        )

    async def presign(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `presign`: a form with which the client stores one picture."""
        direct = self._begin(request)
        self._services.permits.check(
            request.headers.get("Authorization", ""), self._addresses.client_address(request)
        )
        fields = await read_fields(request)
        permitted = await direct.begin(required(fields, "type"))
        return web.json_response(
            {
                "url": permitted.form.url,
                "fields": dict(permitted.form.fields),
                "key": permitted.key,
                "expires": permitted.expires.isoformat(timespec="seconds"),
            },
            headers=_NO_STORE,
        )

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer POST of `complete`: receive the stored picture, like any other upload."""
        direct = self._begin(request)
        key = one(await read_fields(request), "key")
        with unreadable_is_invalid():
            upload = await direct.receive(key)
        return web.json_response(describe_upload(upload), headers=_NO_STORE)

    def _begin(self, request: web.Request) -> DirectUploads:
        request[REQUEST_CLASS] = "upload"
        self._services.access.check_origin(request.headers.get("Origin", ""))
        if self._services.direct is None:
            raise NotFound("Pictures are kept in folders here. Send them to upload or tus.")
        return self._services.direct
