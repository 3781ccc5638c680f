"""Handler of `/view?manifest=`: a document of the Presentation API in Mirador.

Only documents of this server are opened: a page that opens any address would let another site show
its content under our name.
"""

from __future__ import annotations

import re
import secrets

from aiohttp import web

from orchestrator.errors import InvalidInput
from orchestrator.web.page_templates import HTML, PAGES, Pages, page_policy
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import REQUEST_CLASS
from orchestrator.web.view_routes import PREFIX

MAX_ADDRESS_CHARS = 2048
_OWN_PATH = re.compile(r"/iiif-(?:manifest|resource|collection)/[!-~]+")


class ManifestViewer:
    """The page with Mirador."""

    def __init__(self, pages: Pages, addresses: PublicAddressResolver) -> None:
        self._pages = pages
        self._addresses = addresses

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get(PREFIX, self.show)

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the page. Raises InvalidInput for an address that is not ours."""
        request[REQUEST_CLASS] = "page"
        request[PAGES] = self._pages
        base = self._addresses.resolve_request(request).base
        address = own_document(request.query.get("manifest", ""), base)
        # Mirador adds its styles by script. They carry a nonce of this answer, so that the policy
        # need not permit inline styles.
        nonce = secrets.token_urlsafe(16)
        return web.Response(
            body=self._pages.render("mirador.html", base, manifest=address, nonce=nonce),
            headers={
                "Content-Type": HTML,
                "Content-Security-Policy": page_policy([base], nonce=nonce),
                "Cache-Control": "no-store",
            },
        )


def own_document(text: str, base: str) -> str:
    """Return the address of a document of this server, which is given as a path or with our base
    URL. Raises InvalidInput.
    """
    path = text.removeprefix(base)
    if len(text) > MAX_ADDRESS_CHARS or not _OWN_PATH.fullmatch(path) or "\\" in path:
        raise InvalidInput(
            "manifest must be the address of a manifest or collection of this server:"
            " /iiif-manifest/..., /iiif-resource/... or /iiif-collection/..."
        )
    return base + path
