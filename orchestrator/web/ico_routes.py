"""Handlers of /ico: pictures shaped by their URL. They parse the path, call the transformer, and
turn the result into an HTTP response.
"""

from __future__ import annotations

import asyncio
import re
import time
from urllib.parse import quote, unquote

from aiohttp import web

from orchestrator.cache.hot.tier import HotTier
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.iiif.negotiation import preferred_picture_format
from orchestrator.routing.delivery_types import Delivery
from orchestrator.settings import Settings
from orchestrator.transform.access import Signed
from orchestrator.transform.parameters import NamedFormat
from orchestrator.transform.signatures import EXPIRY, SIGNATURE
from orchestrator.transform.stores import BUCKET_HEADER, REGION_HEADER
from orchestrator.transform.transformer import (
    AssetPictures,
    Credentials,
    Transformed,
    Transformer,
    TransformRequest,
)
from orchestrator.web.hot_entries import HotEntry, store_hot
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import (
    ERROR_VARY,
    REQUEST_CLASS,
    respond,
)

PREFIX = "/ico/"
_LIFETIME = re.compile(r"\b(s-maxage|max-age)=(\d+)")


class IcoRoutes:
    """Handlers of the /ico routes of one process."""

    def __init__(
        self,
        *,
        transformer: Transformer,
        assets: AssetPictures,
        hot: HotTier[HotEntry],
        addresses: PublicAddressResolver,
        settings: Settings,
    ) -> None:
        self._transformer = transformer
        self._assets = assets
        self._hot = hot
        self._addresses = addresses
        self._settings = settings
        self._vary = ", ".join(
            [
                *(["Accept"] if settings.ico.negotiate else []),
                *([REGION_HEADER, BUCKET_HEADER] if transformer.stores.depends_on_headers else []),
            ]
        )
        self._expiring: set[str] = set()

    @property
    def purges(self) -> bool:
        """True if DELETE is configured."""
        return bool(self._settings.ico.purge_secrets)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer GET or HEAD of `/ico/{params}/{path}`. Errors are raised for the middleware."""
        request[REQUEST_CLASS] = "ico"
        request[ERROR_VARY] = self._vary
        token = self._hot.token()
        parsed = self._parse(request)
        answer = await self._transformer.transform(parsed, self._assets)
        # The hot tier knows no bucket that headers choose. What else is in the query is not signed:
        # a client can invent any number of such targets.
        is_known = not parsed.chosen_bucket and len(request.query) <= parsed.signed.parameters
        delivery = self._delivery(answer, may_be_hot=is_known)
        if delivery.public:
            base = self._addresses.resolve_request(request).base
            store_hot(self._hot, request, base, delivery, token)
            self._expire_later(answer)
        return respond(request, delivery)

    async def purge(self, request: web.Request) -> web.StreamResponse:
        """Answer DELETE of `/ico/{path}`."""
        request[REQUEST_CLASS] = "ico"
        request[ERROR_VARY] = self._vary
        self._transformer.rules.check_purge(request.headers.get("Authorization", ""))
        path = _decoded(request.raw_path.partition("?")[0].removeprefix(PREFIX))
        headers = request.headers
        purged = await self._transformer.purge(
            path, headers.get(REGION_HEADER, ""), headers.get(BUCKET_HEADER, "")
        )
        self._hot.drop_asset(purged.group)
        return web.json_response(
            {"result": True, "deleted": purged.results}, headers={"Cache-Control": "no-store"}
        )

    def _parse(self, request: web.Request) -> TransformRequest:
        segment, slash, path = (
            request.raw_path.partition("?")[0].removeprefix(PREFIX).partition("/")
        )
        if not slash or not segment or not path:
            raise NotFound("There is nothing at this address. Request /ico/{params}/{path}.")
        headers = request.headers
        accepted: NamedFormat = ""
        if self._settings.ico.negotiate:
            accepted = preferred_picture_format(", ".join(headers.getall("Accept", ())))
        return TransformRequest(
            _decoded(segment),
            _decoded(path),
            Signed(request.query.get(EXPIRY, ""), request.query.get(SIGNATURE, "")),
            headers.get(REGION_HEADER, ""),
            headers.get(BUCKET_HEADER, ""),
            accepted,
            Credentials(headers.get("Authorization", ""), request.cookies),
            waits_for_store=request.method == "HEAD",
        )

    def _delivery(self, answer: Transformed, *, may_be_hot: bool) -> Delivery:
        caching, asset = self._settings.delivery, answer.asset
        control = _shortened(self._settings.ico.cache_control, answer.permitted.until)
        vary = self._vary
        if answer.stale:
            control = caching.cache_error
        if answer.private:
            control = caching.cache_restricted
            vary = ", ".join(filter(None, (vary, "Authorization, Cookie")))
        return Delivery(
            status=200,
            body=answer.result.body,
            media_type=answer.result.media_type,
            tier=answer.result.tier,
            request_class="ico",
            cache_control=control,
            asset=asset.id if asset else None,
            version=asset.version if asset else 0,
            last_modified=None if answer.private else answer.modified,
            surrogate_keys=(asset.id.surrogate_key if asset else quote(answer.group, safe=""),),
            timings=answer.timings,
            canonical=answer.permitted.parameters.canonical,
            public=may_be_hot and self._may_be_hot(answer),
            vary=vary,
            hot_group=answer.group,
            is_signed=answer.permitted.by_signature,
            product=answer.result.product,
        )

    def _may_be_hot(self, answer: Transformed) -> bool:
        """True if the answer may be kept in memory: for assets until a notice drops it, for other
        pictures until the original is looked up again. No answer outlives its signature.
        """
        if answer.private or answer.stale or answer.hot_s <= 0:
            return False
        until = answer.permitted.until
        return until is None or (answer.asset is None and until - time.time() >= answer.hot_s)

    def _expire_later(self, answer: Transformed) -> None:
        """Drop the answers of a picture from memory when its original is to be looked up again."""
        group = answer.group
        if answer.asset is None and group not in self._expiring:
            self._expiring.add(group)
            asyncio.get_running_loop().call_later(answer.hot_s, self._expire, group)

    def _expire(self, group: str) -> None:
        self._expiring.discard(group)
        self._hot.drop_asset(group)


def _decoded(text: str) -> str:
    """The percent-decoded text. Raises InvalidInput if it is not UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidInput("The path is not UTF-8. Percent-encode its bytes as UTF-8.") from error


def _shortened(cache_control: str, until: int | None) -> str:
    """The Cache-Control of an answer whose URL is valid until this Unix time."""
    if until is None:
        return cache_control
    remaining = max(0, int(until - time.time()))
    return _LIFETIME.sub(lambda match: f"{match[1]}={min(int(match[2]), remaining)}", cache_control)
