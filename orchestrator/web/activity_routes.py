"""Handlers of /iiif-activity: the changes of a customer's assets, as IIIF Change Discovery.

The stream tells what the public knows: an asset of which the public sees nothing has no activity,
and one that is closed to the public is deleted from the stream. So the answers are the same for
every client, and their ETags change with public changes alone.
"""

from __future__ import annotations

import gzip
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from orchestrator.catalog.activities import Activities
from orchestrator.catalog.customers import Customers
from orchestrator.errors import NotFound
from orchestrator.iiif.change_discovery import (
    MEDIA_TYPE,
    change_collection,
    change_item,
    change_page,
)
from orchestrator.iiif.paths import MANIFEST_PREFIX, encode_identifier
from orchestrator.routing.delivery_types import Delivery
from orchestrator.routing.name_cache import NameCache
from orchestrator.web.document_urls import DocumentUrls
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import REQUEST_CLASS, respond

PAGE_ITEMS = 100
_GROWING, _FULL = "public, max-age=60", "public, max-age=3600"
"""Cache-Control of what gets further activities, and of a page that does not."""


class ActivityRoutes:
    """Handlers of the activity streams."""

    def __init__(
        self,
        activities: Activities,
        customers: Customers,
        names: NameCache,
        addresses: PublicAddressResolver,
        default_version: int,
    ) -> None:
        """`default_version` is that of the Image API."""
        self._activities = activities
        self._customers = customers
        self._names = names
        self._addresses = addresses
        self._version = default_version

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        stream = "/iiif-activity/{customer}"
        router.add_get(f"{stream}/all-changes", self.collection)
        router.add_get(f"{stream}/page/{{page:[1-9][0-9]{{0,14}}}}", self.page)

    async def collection(self, request: web.Request) -> web.StreamResponse:
        """Answer with the collection: its first and its last page."""
        request[REQUEST_CLASS] = "activity"
        bounds = await self._activities.bounds(await self._customer(request))
        stream = self._stream(request)
        first, last = (bounds.first, bounds.last) if bounds else (1, 1)
        document = change_collection(
            f"{stream}/all-changes", _page_id(stream, first), _page_id(stream, last)
        )
        return _respond(request, document, bounds.at if bounds else None, _GROWING)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Answer with a page: a hundred activities, fewer after old ones were pruned."""
        request[REQUEST_CLASS] = "activity"
        customer = await self._customer(request)
        last = int(request.match_info["page"]) * PAGE_ITEMS
        first = last - PAGE_ITEMS + 1
        found = await self._activities.range(customer, first, last)
        if first > 1 and not found.activities and found.after is None:
            raise NotFound("The activity stream has no such page. Begin with all-changes.")
        stream = self._stream(request)
        urls = DocumentUrls(self._addresses.resolve_request(request), self._version)
        items = [
            change_item(each.kind, urls.asset(MANIFEST_PREFIX, None, each.asset), each.at)
            for each in found.activities
        ]
        document = change_page(
            _page_id(stream, first),
            f"{stream}/all-changes",
            items,
            previous=None if found.before is None else _page_id(stream, found.before),
            following=None if found.after is None else _page_id(stream, found.after),
        )
        at = found.activities[-1].at if found.activities else None
        return _respond(request, document, at, _GROWING if found.after is None else _FULL)

    async def _customer(self, request: web.Request) -> int:
        """The customer in the path, by number or name. Raises NotFound, CatalogUnavailable."""
        text = request.match_info["customer"]
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            number = await self._names.customer_of_name(text)
        else:
            number = int(text) if await self._customers.exists(int(text)) else None
        if number is None:
            raise NotFound("There is no such customer. Check the path.")
        return number

    def _stream(self, request: web.Request) -> str:
        customer = encode_identifier(request.match_info["customer"])
        return f"{self._addresses.resolve_request(request).base}/iiif-activity/{customer}"


def _page_id(stream: str, number: int) -> str:
    """The id of the page that has the activity with this number."""
    return f"{stream}/page/{(number - 1) // PAGE_ITEMS + 1}"


def _respond(
    request: web.Request, document: dict[str, Any], at: datetime | None, cache_control: str
) -> web.StreamResponse:
    body = orjson.dumps(document)
    return respond(
        request,
        Delivery(
            status=200,
            body=body,
            gzip=gzip.compress(body, 6, mtime=0),
            media_type=MEDIA_TYPE,
            tier="",
            request_class="activity",
            cache_control=cache_control,
            last_modified=at,
        ),
    )
