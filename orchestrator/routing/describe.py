"""Builds IIIF info documents (info.json), as bytes ready to send.

They are computed from the asset snapshot, so an info document reads no source and no object store,
and no image server unless `image_server.info` says so.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from orchestrator.errors import AssetNotFound, NotAuthorised
from orchestrator.iiif.access_services import (
    CONTEXT_2,
    AccessAddresses,
    AccessService,
    info_services,
    services_for,
)
from orchestrator.iiif.geometry import Limits
from orchestrator.iiif.info_documents import (
    InfoInput,
    advertised_sizes,
    info_document,
    level0_document,
    restricted_document,
    scale_factors,
    tile_shape,
)
from orchestrator.iiif.link_header import info_link, info_media_type
from orchestrator.iiif.negotiation import prefers_linked
from orchestrator.model import Asset, AssetId, Dimensions
from orchestrator.routing.access_tokens import Rights
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.image_servers.pool_documents import PoolDocuments
from orchestrator.settings import Iiif


@dataclass(frozen=True, slots=True)
class InfoDocument:
    """An info document: plain and gzip bytes, media type and Link header value."""

    body: bytes
    gzip: bytes
    media_type: str
    link: str
    asset: Asset
    stale: bool
    private: bool


class InfoDescriber:
    """Builds info documents of IIIF Image API 2 and 3, and the level 0 documents of /thumbs."""

    def __init__(
        self,
        assets: CurrentAssets,
        limits: Limits,
        settings: Iiif,
        formats: tuple[str, ...],
        *,
        access: Sequence[AccessService] = (),
        documents: PoolDocuments | None = None,
    ) -> None:
        """`formats` are the formats that the encoders of this host can write. `access` are the
        services that give access to restricted assets. `documents` are those of image servers.
        """
        self._documents = documents
        self._assets = assets
        self._limits = limits
        self._settings = settings
        self._formats = formats
        self._access = access

    async def info(
        self,
        asset_id: AssetId,
        *,
        version: int,
        id_url: str,
        base: str,
        rights: Rights,
        accept: str,
        level: int,
    ) -> InfoDocument:
        """The info document of one asset, with `id_url` as its id. `base` is the public address of
        this server, for the services that give access.

        Raises AssetNotFound, CatalogUnavailable, the recorded error of a refused asset, and
        NotAuthorised if an anonymous client may see no size at all of the asset.
        """
        snapshot = await self._assets.get(asset_id, rights)
        asset = snapshot.asset
        tile = await self._tile_of(asset)
        fields = self._input_of(asset, id_url, tile, authorised=rights.cover(asset))
        if level == 0:
            document = level0_document(version, _with_open_thumbnails(asset, fields))
        else:
            services, contexts = self._access_to(asset, base, version)
            fields = replace(fields, services=[*fields.services, *services], contexts=contexts)
            document = info_document(version, fields)
        body = orjson.dumps(document)
        linked = prefers_linked(accept, version)
        return InfoDocument(
            body=body,
            gzip=gzip.compress(body, 6, mtime=0),
            media_type=info_media_type(version, linked=linked),
            link=info_link(version, linked=linked, level=level),
            asset=asset,
            stale=snapshot.stale,
            private=asset.restricted,
        )

    async def restricted(
        self, asset_id: AssetId, *, version: int, id_url: str, base: str
    ) -> dict[str, Any]:
        """The document for a client that may see nothing of the asset: the services that give
        access. Empty if there are none. Raises AssetNotFound, CatalogUnavailable.
        """
        asset = await self._assets.known(asset_id)
        services, contexts = self._access_to(asset, base, version)
        return restricted_document(version, id_url, services, contexts) if services else {}

    def _access_to(
        self, asset: Asset, base: str, version: int
    ) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        """The services that give access to a restricted asset, and the contexts they need."""
        if not asset.restricted or not self._access:
            return [], ()
        found = services_for(self._access, asset.id.customer, asset.roles)
        addresses = AccessAddresses(base, asset.id.customer)
        services = info_services(addresses, (asset.id.space, asset.id.name), found, version)
        return services, (CONTEXT_2,) if services and version == 3 else ()

    async def _tile_of(self, asset: Asset) -> Dimensions:
        """The size of the tiles in the source, or that which the image servers state."""
        tile = None if self._documents is None else await self._documents.tile_of(asset)
        if tile is not None:
            return tile
        source = asset.source
        return (source.tile_width, source.tile_height) if source else (256, 256)

    def _input_of(
        self, asset: Asset, id_url: str, tile: Dimensions, *, authorised: bool
    ) -> InfoInput:
        edge = None if authorised else asset.public_edge
        if edge == 0:
            raise NotAuthorised("This asset is restricted. Send a token with one of its roles.")
        limits = self._limits if edge is None else self._limits.within_edge(edge)
        shown = asset.thumbnails.all() if edge is None else asset.thumbnails.open
        factors = scale_factors(asset.dimensions, tile_shape(tile, limits))
        if edge is not None:
            longest = max(asset.dimensions)
            factors = [f for f in factors if longest <= edge * f] or factors[-1:]
        return InfoInput(
            id_url=id_url,
            width=asset.width,
            height=asset.height,
            sizes=advertised_sizes(asset.dimensions, shown, limits),
            limits=limits,
            tile_width=tile[0],
            tile_height=tile[1],
            scale_factors=factors,
            formats=self._formats,
            rights=asset.rights or self._settings.rights,
            services=self._settings.services,
        )


def _with_open_thumbnails(asset: Asset, fields: InfoInput) -> InfoInput:
    """The input for /thumbs: its sizes are the stored open thumbnails, and no computed size."""
    if not asset.thumbnails.open:
        raise AssetNotFound("This asset has no public thumbnails.")
    return replace(fields, sizes=sorted(asset.thumbnails.open))
