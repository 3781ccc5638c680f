"""Recording originals so that they can be answered from at once, before anything is made of them.

Only headers are read. Registering the same bytes under the same policies again changes nothing;
what an older version had in the object store is removed once a newer one has taken its place.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.values import AssetDraft, Registered
from orchestrator.errors import OriginUnavailable
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import pyramid_levels
from orchestrator.ingest.prepare import Recipes, sizes_for
from orchestrator.ingest.publish import source_of, split
from orchestrator.ingest.remove import Remover
from orchestrator.model import (
    FILE,
    Asset,
    AssetId,
    AssetState,
    Source,
    SourceKind,
    ThumbnailSizes,
    file_fingerprint,
    public_edge,
)
from orchestrator.origins.file_reader import file_status


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to take in. None leaves what an earlier version of the asset had; policies by
    name, "" the default.
    """

    id: AssetId
    origin: str
    optimisation_policy: str = ""
    thumbnail_policy: str = ""
    roles: tuple[str, ...] | None = None
    max_unauthorised: int | None = None
    strings: tuple[str, str, str] | None = None
    numbers: tuple[int, int, int] | None = None
    tags: tuple[str, ...] | None = None
    rights: str | None = None
    force: bool = False
    """Take it in even when nothing about it has changed."""


class Registrar:
    """Records originals in the catalogue."""

    def __init__(
        self, assets: Assets, imaging: ImagingPool, remover: Remover, max_bytes: int
    ) -> None:
        self._assets = assets
        self._imaging = imaging
        self._remover = remover
        self._max_bytes = max_bytes

    async def in_place(
        self, asset_id: AssetId, path: Path, policies: Recipes, known: Asset | None
    ) -> Registered:
        """Register the local file `path`, to be read where it is; `known` is the asset as it was
        read before.

        Raises OriginUnavailable, Unprocessable, TooLarge, Overloaded; `known` then goes on as it
        is.
        """
        status = await asyncio.to_thread(file_status, path, self._max_bytes)
        mark = file_fingerprint(status)
        request = Request(asset_id, str(path))
        if known is not None and is_unchanged(known, request, mark, policies):
            return Registered(known, changed=False)
        try:
            probe = await self._imaging.probe(path)
        except FileNotFoundError as error:
            raise OriginUnavailable("The file was removed while it was read.") from error
        planned = as_planned(probe, policies)
        source = source_of(planned, f"{FILE}{path}", status.st_size, mark)
        metrics.INGEST_BYTES.inc(status.st_size)
        draft = draft_of(request, probe, policies, source, mark)
        return await self._record(draft, policies, known)

    async def _record(
        self, draft: AssetDraft, policies: Recipes, known: Asset | None
    ) -> Registered:
        """Record a probed original under a new version; its thumbnails are planned, none is there
        yet.
        """
        planned = planned_thumbnails(draft, policies, known)
        registered = await self._assets.register(draft, thumbnails=planned)
        if registered.changed:
            metrics.INGESTS.labels("registered").inc()
            if known is not None:
                await self._remover.at_once(draft.id)
        return registered


def draft_of(
    request: Request,
    probe: Probe | None,
    policies: Recipes | None,
    source: Source | None,
    origin_fingerprint: str,
    *,
    origin_etag: str = "",
    origin_sha256: str = "",
    batch: int | None = None,
) -> AssetDraft:
    """Return what the catalogue is to record of a probed original; of one only asked for, without
    `probe`, and with the policies as they were named.
    """
    optimisation, thumbnails = request.optimisation_policy, request.thumbnail_policy
    if policies is not None:
        optimisation, thumbnails = policies.optimisation.name, policies.thumbnails.name
    return AssetDraft(
        id=request.id,
        origin=request.origin,
        width=probe.width if probe else 0,
        height=probe.height if probe else 0,
        media_type=probe.media_type if probe else "",
        source=source,
        origin_fingerprint=origin_fingerprint,
        origin_etag=origin_etag,
        origin_sha256=origin_sha256,
        optimisation_policy=optimisation,
        thumbnail_policy=thumbnails,
        roles=request.roles,
        max_unauthorised=request.max_unauthorised,
        strings=request.strings,
        numbers=request.numbers,
        tags=request.tags,
        rights=request.rights,
        batch=batch,
    )


def as_planned(probe: Probe, policies: Recipes) -> Probe:
    """Return the probe with the tiles and levels its conversion will have, so that the info
    document stays the same.
    """
    conversion = policies.optimisation.conversion
    if conversion is None or probe.kind is not SourceKind.ORIGINAL:
        return probe
    tile = conversion.advertised_tile
    levels = pyramid_levels(probe.dimensions, tile)
    return replace(probe, tile_width=tile, tile_height=tile, levels=levels)


def is_unchanged(
    known: Asset, request: Request, origin_fingerprint: str, policies: Recipes
) -> bool:
    """Tell whether the asset was, or is being, made from these very bytes by these policies."""
    return (
        known.state is not AssetState.FAILED
        and known.origin == request.origin
        and known.origin_fingerprint == origin_fingerprint
        and known.optimisation_policy == policies.optimisation.name
        and known.thumbnail_policy == policies.thumbnails.name
    )


def public_edge_of(draft: AssetDraft, known: Asset | None) -> int | None:
    """Return the longest edge anyone may see once `draft` is recorded over `known`; None without
    limit.
    """
    roles, limit = draft.roles, draft.max_unauthorised
    if roles is None:
        roles = known.roles if known else ()
    if limit is None:
        limit = known.max_unauthorised if known else -1
    return public_edge(roles, limit)


def planned_thumbnails(draft: AssetDraft, policies: Recipes, known: Asset | None) -> ThumbnailSizes:
    """Return the thumbnails a conversion will make."""
    sizes = sizes_for((draft.width, draft.height), policies.thumbnails)
    return split(sizes, public_edge_of(draft, known))
