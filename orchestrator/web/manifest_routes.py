"""Handlers of /iiif-manifest: the manifest of one image."""

from __future__ import annotations

import gzip
from datetime import datetime

from aiohttp import web

from orchestrator.cache.hot.tier import HotTier
from orchestrator.iiif.link_header import document_link, document_media_type
from orchestrator.iiif.negotiation import prefers_linked, version_from_accept
from orchestrator.iiif.paths import MANIFEST_PREFIX, parse_path
from orchestrator.manifests.canvases import CanvasBuilder, Viewing
from orchestrator.manifests.single_manifest import single_manifest
from orchestrator.model import Asset, AssetId
from orchestrator.routing.access_tokens import Rights, SignedTokens
from orchestrator.routing.asset_identifiers import AssetIdentifiers
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.delivery_types import Delivery, etag_of
from orchestrator.routing.snapshots import Snapshot, Snapshots
from orchestrator.settings import Settings
from orchestrator.web.document_urls import DocumentUrls
from orchestrator.web.hot_entries import HotEntry, store_hot
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.request_rights import accept_of, rights_of
from orchestrator.web.responses import (
    ERROR_VARY,
    REQUEST_CLASS,
    respond,
)

REQUEST_CLASS_NAME = "manifest"
"""The request class of manifests and collections in metrics and in the access log."""


class ManifestRoutes:
    """Handlers of the manifests of single images."""

    def __init__(
        self,
        *,
        identifiers: AssetIdentifiers,
        snapshots: Snapshots,
        assets: CurrentAssets,
        tokens: SignedTokens,
        builder: CanvasBuilder,
        hot: HotTier[HotEntry],
        addresses: PublicAddressResolver,
        settings: Settings,
    ) -> None:
        self._snapshots = snapshots
        self._assets = assets
        self._identifiers = identifiers
        self._tokens = tokens
        self._builder = builder
        self._hot = hot
        self._addresses = addresses
        self._settings = settings

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route. `iiif/paths.py` parses the raw path."""
        router.add_get(f"/{MANIFEST_PREFIX}/{{image:(?s:.*)}}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one GET or HEAD. Errors are raised for the middleware."""
        request[REQUEST_CLASS], request[ERROR_VARY] = REQUEST_CLASS_NAME, "Accept"
        path = parse_path(request.raw_path)
        address, token = self._addresses.resolve_request(request), self._hot.token()
        accept = accept_of(request)
        version = path.version or version_from_accept(
            accept, self._settings.iiif.presentation_version, "presentation"
        )
        rights = rights_of(request, self._tokens, documents=True)
        snapshot = await self._read(await self._identifiers.resolve(path), rights)
        asset = snapshot.asset
        urls = DocumentUrls(address, self._settings.iiif.default_version)
        body = single_manifest(
            self._builder,
            asset,
            Viewing(urls, rights.cover),
            manifest_id=urls.requested(path),
            version=version,
        )
        delivery = self._delivery(snapshot, body, version, accept)
        store_hot(self._hot, request, address.base, delivery, token)
        return respond(request, delivery)

    async def _read(self, asset_id: AssetId, rights: Rights) -> Snapshot:
        """The asset. Raises AssetNotFound, CatalogUnavailable, and the recorded error of a refused
        asset, unless the client may know nothing of it.
        """
        snapshot = await self._snapshots.get(asset_id)
        asset = snapshot.asset
        if not asset.refused or (asset.public_edge == 0 and not rights.cover(asset)):
            return snapshot
        return await self._assets.get(asset_id, rights)

    def _delivery(self, snapshot: Snapshot, body: bytes, version: int, accept: str) -> Delivery:
        asset, caching = snapshot.asset, self._settings.delivery
        linked = prefers_linked(accept, 3)
        media_type = document_media_type(version, linked=linked)
        control, vary = caching.cache_public, "Accept"
        headers = document_link(version, linked=linked)
        if snapshot.stale:
            control = caching.cache_error
            headers += (("Warning", '110 - "Response is Stale"'),)
        if asset.restricted:
            control, vary = caching.cache_restricted, "Accept, Authorization, Cookie"
        return Delivery(
            status=200,
            body=body,
            gzip=gzip.compress(body, 6, mtime=0),
            media_type=media_type,
            etag=etag_of(body, media_type),
            tier="",
            request_class=REQUEST_CLASS_NAME,
            cache_control=control,
            vary=vary,
            asset=asset.id,
            version=asset.version,
            last_modified=_last_modified(asset),
            surrogate_keys=(asset.id.surrogate_key,),
            public=not asset.restricted and not snapshot.stale,
            headers=headers,
        )


def _last_modified(asset: Asset) -> datetime | None:
    """The time of the last change. That of a restricted asset would tell the public of changes that
    it may not see.
    """
    return None if asset.restricted else asset.updated
