"""Handlers of the image routes: /iiif-img, /iiif and /thumbs. They parse the path, call routing,
and turn the result into an HTTP response.

The syntax is checked before anything is looked up, so that a malformed request causes no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from orchestrator import metrics
from orchestrator.cache.hot.tier import HotTier
from orchestrator.errors import NotAuthorised, OrchestratorError
from orchestrator.iiif.link_header import image_link
from orchestrator.iiif.negotiation import version_from_accept
from orchestrator.iiif.paths import ImagePath, encode_identifier, parse_path
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.model import AssetId
from orchestrator.routing.access_tokens import NO_RIGHTS, SignedTokens
from orchestrator.routing.asset_identifiers import AssetIdentifiers
from orchestrator.routing.deliver import DeliveredImage, Deliverer
from orchestrator.routing.delivery_types import Delivery, etag_of
from orchestrator.routing.describe import InfoDescriber
from orchestrator.routing.warmer import SourceWarmer
from orchestrator.settings import Settings
from orchestrator.web.hot_entries import HotEntry, store_hot
from orchestrator.web.public_address import PublicAddress, PublicAddressResolver
from orchestrator.web.request_rights import accept_of, rights_of
from orchestrator.web.responses import (
    ERROR_FIELDS,
    REQUEST_CLASS,
    respond,
)


@dataclass(frozen=True, slots=True)
class _ImageRoute:
    """One request with its parsed path, its public address, and the token that the hot tier gave
    before any look-up.
    """

    request: web.Request
    path: ImagePath
    address: PublicAddress
    token: int

    @property
    def accept(self) -> str:
        return accept_of(self.request)

    def url(self, path: ImagePath) -> str:
        return _public_url(path, self.address)


class ImageRoutes:
    """Handlers of the image routes of one process."""

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        describer: InfoDescriber,
        identifiers: AssetIdentifiers,
        tokens: SignedTokens,
        warmer: SourceWarmer,
        hot: HotTier[HotEntry],
        addresses: PublicAddressResolver,
        settings: Settings,
    ) -> None:
        self._deliverer = deliverer
        self._describer = describer
        self._identifiers = identifiers
        self._tokens = tokens
        self._warmer = warmer
        self._hot = hot
        self._addresses = addresses
        self._settings = settings

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one GET or HEAD on an image route. Errors are raised for the middleware."""
        request[REQUEST_CLASS] = "image"  # the class of errors that occur before it is known
        path = parse_path(request.raw_path)
        route = _ImageRoute(
            request, path, self._addresses.resolve_request(request), self._hot.token()
        )
        match path.rest:
            case ():
                delivery = self._base(route)
            case ("info.json",):
                delivery = await self._info(route)
            case _:
                delivery = await self._image(route)
        store_hot(self._hot, request, route.address.base, delivery, route.token)
        return respond(request, delivery)

    def at_once(self, target: str, address: PublicAddress) -> Delivery | None:
        """Return the answer to a plain GET of an image if it can be had without waiting, else None:
        also for errors and for everything that is no image.
        """
        try:
            path = parse_path(target)
            if len(path.rest) != 4:
                return None
            version = path.version or self._settings.iiif.default_version
            image_request = parse_image_request(path.rest, version)
            asset_id = self._identifiers.at_hand(path)
        except OrchestratorError:
            return None
        if asset_id is None:
            return None
        picture = self._deliverer.at_once(
            asset_id, image_request, thumbnail=path.prefix == "thumbs"
        )
        return None if picture is None else self._describe(path, address, asset_id, picture)

    def _base(self, route: _ImageRoute) -> Delivery:
        """Answer 303 to the info document (IIIF Image 3.0, section 2), without the query."""
        location = route.url(route.path) + "/info.json"
        return Delivery(
            status=303,
            body=b"",
            media_type="",
            tier="",
            request_class="base",
            cache_control=self._settings.delivery.cache_public,
            headers=(("Location", location),),
        )

    async def _info(self, route: _ImageRoute) -> Delivery:
        path = route.path
        default = self._settings.iiif.default_version
        version = path.version or version_from_accept(route.accept, default)
        asset_id = await self._identifiers.resolve(path)
        id_path = path
        if path.version is None and version != default:
            # Accept selected another version than the default one: the id must contain it, so that
            # it leads to a document of the same version.
            id_path = ImagePath(path.prefix, version, path.identifier, path.rest)
        thumbs = path.prefix == "thumbs"
        id_url, base = route.url(id_path), route.address.base
        try:
            document = await self._describer.info(
                asset_id,
                version=version,
                id_url=id_url,
                base=base,
                rights=NO_RIGHTS
                if thumbs
                else rights_of(route.request, self._tokens, documents=True),
                accept=route.accept,
                level=0 if thumbs else 2,
            )
        except NotAuthorised:
            if not thumbs:  # a thumbnail is the same with every right
                route.request[ERROR_FIELDS] = await self._describer.restricted(
                    asset_id, version=version, id_url=id_url, base=base
                )
            raise
        if not thumbs and route.request.method == "GET" and self._may_orchestrate(route.request):
            self._warmer.enqueue(document.asset)
        return self._delivery(
            document.asset.id,
            document.asset.version,
            body=document.body,
            gzip=document.gzip,
            media_type=document.media_type,
            etag=etag_of(document.body, document.media_type),
            request_class="info",
            vary="Accept",
            last_modified=document.asset.updated,
            private=document.private,
            stale=document.stale,
            headers=(("Link", document.link),),
        )

    async def _image(self, route: _ImageRoute) -> Delivery:
        path = route.path
        version = path.version or self._settings.iiif.default_version
        image_request = parse_image_request(
            (path.rest[0], path.rest[1], path.rest[2], path.rest[3]), version
        )
        asset_id = await self._identifiers.resolve(path)
        if path.prefix == "thumbs":
            picture = await self._deliverer.thumbnail(asset_id, image_request)
        else:
            picture = await self._deliverer.image(
                asset_id, image_request, rights_of(route.request, self._tokens)
            )
        return self._describe(path, route.address, asset_id, picture)

    def _describe(
        self, path: ImagePath, address: PublicAddress, asset_id: AssetId, picture: DeliveredImage
    ) -> Delivery:
        """Return the picture with the facts that its headers state."""
        version = path.version or self._settings.iiif.default_version
        canonical = picture.image.canonical
        level = 0 if path.prefix == "thumbs" else 2
        link = image_link(version, f"{_public_url(path, address)}/{canonical}", level=level)
        return self._delivery(
            asset_id,
            picture.asset.version,
            body=picture.body,
            media_type=picture.media_type,
            request_class=_request_class(path, picture),
            last_modified=picture.asset.updated,
            private=picture.private,
            stale=picture.stale,
            tier=picture.tier,
            timings=picture.timings,
            canonical=canonical,
            headers=(("Link", link),),
            product=picture.product,
        )

    def _delivery(
        self,
        asset_id: AssetId,
        version: int,
        *,
        private: bool,
        stale: bool,
        headers: tuple[tuple[str, str], ...],
        tier: str = "",
        vary: str = "",
        **fields: object,
    ) -> Delivery:
        caching = self._settings.delivery
        control = caching.cache_restricted if private else caching.cache_public
        if stale:
            metrics.STALE_ANSWERS.inc()
            control = caching.cache_restricted if private else caching.cache_error
            headers += (("Warning", '110 - "Response is Stale"'),)
        if private:
            vary = f"{vary}, Authorization, Cookie".lstrip(", ")
            # The time of a change of what a client may not see; ETags depend on what is sent.
            fields["last_modified"] = None
        return Delivery(
            status=200,
            asset=asset_id,
            version=version,
            tier=tier,
            vary=vary,
            headers=headers,
            cache_control=control,
            surrogate_keys=(asset_id.surrogate_key,),
            public=not private and not stale,
            **fields,  # type: ignore[arg-type]  # fields of Delivery, named by the callers
        )

    def _may_orchestrate(self, request: web.Request) -> bool:
        is_enabled = self._settings.delivery.orchestrate_on_info
        return is_enabled and request.query.get("noOrchestrate", "").lower() not in ("true", "1")


def _public_url(path: ImagePath, address: PublicAddress) -> str:
    """Return the public base URI of the asset, by the path template of the host if it has one."""
    prefix, version, identifier = path.prefix, path.version, path.identifier
    parts = identifier.split("/", 2)
    if prefix == "iiif" or len(parts) < 3:
        return address.base + path.base
    return address.url(
        prefix=prefix,
        version=version,
        customer=encode_identifier(parts[0]),
        space=parts[1],
        asset_path=path.base.rpartition("/")[2],
        native=path.base,
    )


def _request_class(path: ImagePath, picture: DeliveredImage) -> str:
    """Return the request class for access log and metrics: thumb, full, tile or region."""
    if path.prefix == "thumbs":
        return "thumb"
    image, source = picture.image, picture.asset.source
    if image.full_region:
        return "full"
    if source is None:
        return "region"
    x, y, width, height = image.region
    factor = max(1, round(max(width / image.size[0], height / image.size[1])))
    on_grid = x % (source.tile_width * factor) == 0 and y % (source.tile_height * factor) == 0
    fits = image.size[0] <= source.tile_width and image.size[1] <= source.tile_height
    return "tile" if on_grid and fits else "region"
