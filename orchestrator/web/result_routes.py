"""Handlers of /iiif-resource (named queries) and /iiif-collection (what a customer has)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from orchestrator.catalog.customers import Customers
from orchestrator.errors import InvalidImageRequest, NotFound
from orchestrator.iiif.link_header import document_link, document_media_type
from orchestrator.iiif.negotiation import prefers_linked, version_from_accept
from orchestrator.iiif.paths import DocumentPath, parse_document_path
from orchestrator.manifests.asset_collections import AssetCollections
from orchestrator.manifests.canvases import Viewing
from orchestrator.manifests.named_query_results import NamedQueryResults
from orchestrator.manifests.query_matches import QueryRequest
from orchestrator.manifests.result_documents import DocumentForm, ResultDocument
from orchestrator.routing.access_tokens import NO_RIGHTS, Rights, SignedTokens
from orchestrator.routing.delivery_types import Delivery
from orchestrator.routing.name_cache import NameCache
from orchestrator.settings import Settings
from orchestrator.web.document_urls import DocumentUrls
from orchestrator.web.manifest_routes import REQUEST_CLASS_NAME
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.request_rights import accept_of, rights_of, viewers_of
from orchestrator.web.responses import ERROR_VARY, REQUEST_CLASS
from orchestrator.web.streamed_document import send_document

RESOURCE_PREFIX, COLLECTION_PREFIX = "iiif-resource", "iiif-collection"
_VARY = "Accept, Authorization, Cookie"
_PAGE = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request: what is asked for, by whom, and in which form."""

    path: DocumentPath
    customer: int
    page: int | None
    rights: Rights
    form: DocumentForm
    accept: str


class ResultRoutes:
    """Handlers of named queries and collections."""

    def __init__(
        self,
        *,
        queries: NamedQueryResults,
        collections: AssetCollections,
        customers: Customers,
        names: NameCache,
        tokens: SignedTokens,
        addresses: PublicAddressResolver,
        settings: Settings,
    ) -> None:
        self._queries = queries
        self._collections = collections
        self._customers = customers
        self._names = names
        self._tokens = tokens
        self._addresses = addresses
        self._settings = settings

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes. `iiif/paths.py` parses the raw paths."""
        router.add_get(f"/{RESOURCE_PREFIX}/{{query:(?s:.*)}}", self.resource)
        router.add_get(f"/{COLLECTION_PREFIX}/{{place:(?s:.*)}}", self.collection)

    async def resource(self, request: web.Request) -> web.StreamResponse:
        """Answer one GET or HEAD of a named query. Errors are raised for the middleware."""
        asked = await self._read(request)
        if not asked.path.rest:
            raise InvalidImageRequest("path", "Write the name of a query after the customer.")
        name, *arguments = asked.path.rest
        query = QueryRequest(asked.customer, name, arguments, asked.page)
        return await self._send(request, asked, await self._queries.document(query, asked.form))

    async def collection(self, request: web.Request) -> web.StreamResponse:
        """Answer one GET or HEAD of a collection. Errors are raised for the middleware."""
        asked = await self._read(request)
        viewers, rest = viewers_of(asked.rights), asked.path.rest
        if len(rest) > 1 or (rest and not re.fullmatch(r"[0-9]{1,9}", rest[0], re.ASCII)):
            raise NotFound("After the customer write the number of a space, or nothing.")
        customer = await self._customers.get(asked.customer)
        if rest:
            document = await self._collections.of_space(
                asked.customer, int(rest[0]), asked.form, viewers=viewers, page=asked.page
            )
        else:
            document = await self._collections.of_customer(
                asked.customer, customer.name, asked.form, viewers=viewers, page=asked.page
            )
        return await self._send(request, asked, document)

    async def _read(self, request: web.Request) -> _Asked:
        request[REQUEST_CLASS], request[ERROR_VARY] = REQUEST_CLASS_NAME, _VARY
        path, iiif = parse_document_path(request.raw_path), self._settings.iiif
        accept = accept_of(request)
        version = path.version or version_from_accept(
            accept, iiif.presentation_version, "presentation"
        )
        urls = DocumentUrls(self._addresses.resolve_request(request), iiif.default_version)
        rights = rights_of(request, self._tokens, documents=True)
        page = _page_of(request.query.get("page"))
        form = DocumentForm(
            urls.base + path.canonical, version, Viewing(urls, rights.cover), path.version
        )
        customer = await self._names.customer(path.customer)
        return _Asked(path, customer, page, rights, form, accept)

    async def _send(
        self, request: web.Request, asked: _Asked, document: ResultDocument
    ) -> web.StreamResponse:
        linked = prefers_linked(asked.accept, 3)
        is_public = asked.rights == NO_RIGHTS
        manifests, caching = self._settings.manifests, self._settings.delivery
        delivery = Delivery(
            status=200,
            body=b"",
            media_type=document_media_type(asked.form.version, linked=linked),
            etag=f'"{document.digest}{"" if linked else "-json"}"',
            tier="",
            request_class=REQUEST_CLASS_NAME,
            cache_control=manifests.cache_control if is_public else caching.cache_restricted,
            vary=f"{_VARY}, Accept-Encoding",
            headers=document_link(asked.form.version, linked=linked),
        )
        return await send_document(request, delivery, document.pieces)


def _page_of(text: str | None) -> int | None:
    if text is None:
        return None
    if not _PAGE.fullmatch(text):
        raise InvalidImageRequest("path", "page must be a number from 1 to 999999.")
    return int(text)
