"""Registers original files in place: an asset can be served from its original before anything is
made of it.

Only headers are read. Registering the same bytes under the same policies again changes nothing.
The objects of an older version are removed after the new version has replaced it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.accepted_requests import Check
from orchestrator.catalog.asset_versions import AssetVersions
from orchestrator.catalog.refusals import Refusals
from orchestrator.catalog.values import AssetDraft, Registration
from orchestrator.errors import OriginUnavailable, TooLarge, Unprocessable, refusal
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import FASTEST, pyramid_levels
from orchestrator.ingest.prepare import Recipes, conversion_for, thumbnail_sizes
from orchestrator.ingest.publish import build_source, split_by_access
from orchestrator.ingest.remove import Remover
from orchestrator.model import (
    LASTING,
    STORE,
    Asset,
    AssetId,
    AssetState,
    Source,
    SourceKind,
    ThumbnailSizes,
    public_edge,
)
from orchestrator.origins.download import too_large
from orchestrator.origins.file_reader import location_of_file
from orchestrator.origins.reader_types import OriginLocation

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to ingest one asset. None keeps the value of the version before. Policies are
    given by name, "" for the default.
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
    manifests: tuple[str, ...] | None = None
    rights: str | None = None
    force: bool = False
    """Ingest the asset even if nothing about it has changed."""

    @classmethod
    def accepted_of(cls, asset: Asset) -> Request:
        """The request that was accepted last, with every later change merged in."""
        now, asked = asset.as_requested(), asset.requested
        return cls(
            asset.id,
            now.origin,
            now.optimisation_policy,
            now.thumbnail_policy,
            roles=now.roles,
            max_unauthorised=now.max_unauthorised,
            strings=now.strings,
            numbers=now.numbers,
            tags=now.tags,
            manifests=now.manifests,
            rights=now.rights,
            force=asked is not None and asked.force,
        )


class Registrar:
    """Records original files in the catalogue."""

    def __init__(
        self,
        versions: AssetVersions,
        refusals: Refusals,
        imaging: ImagingPool,
        remover: Remover,
        *,
        max_bytes: int,
        release: str,
    ) -> None:
        """`release` is that of the product."""
        self._versions = versions
        self._refusals = refusals
        self._imaging = imaging
        self._remover = remover
        self._max_bytes = max_bytes
        self._release = release

    async def register_file(
        self,
        asset_id: AssetId,
        path: Path,
        recipes: Recipes,
        known: Asset | None,
        *,
        force: bool = False,
        check: Check | None = None,
    ) -> Registration:
        """Register the local file `path`, to be read where it is. The caller submits a conversion
        job if the asset changed.

        `known` is the asset before; an unchanged file then costs one look at its status, also if
        it was refused (unless `force`). Raises OriginUnavailable or Overloaded: the asset stays as
        it was. Raises Unprocessable or TooLarge for a file that is refused: the asset has the
        reason, unless its converted source can still be served. Raises what `check` raises, which
        is called when something is recorded.
        """
        file = await asyncio.to_thread(location_of_file, path)
        request = Request(asset_id, str(path))
        if known is not None and is_unchanged(known, request, file.fingerprint, recipes):
            return Registration(known, changed=False)
        if known is not None and not force and self._is_refused(known, file, recipes):
            raise refusal(known.error_code, known.error)
        try:
            probe = await self._probe(path, file)
        except (Unprocessable, TooLarge) as error:
            if known is None or not _is_copied(known):
                await self._record_refusal(request, recipes, file, error, check)
            raise
        metrics.INGEST_BYTES.inc(file.bytes)
        log_notes(asset_id, probe)
        source = build_source(
            planned_probe(probe, recipes), file.location, file.bytes, file.fingerprint
        )
        draft = build_draft(
            request, probe=probe, recipes=recipes, source=source, fingerprint=file.fingerprint
        )
        planned = planned_thumbnails(draft, recipes, known)
        registered = await self._versions.register(draft, thumbnails=planned, check=check)
        if registered.changed:
            metrics.INGESTS.labels("registered").inc()
            if known is not None:
                await self._remover.remove_without_grace(asset_id)
        return registered

    async def _probe(self, path: Path, file: OriginLocation) -> Probe:
        """Raises TooLarge, Unprocessable, Overloaded, OriginUnavailable."""
        if file.bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        try:
            return await self._imaging.probe(path)
        except FileNotFoundError as error:
            raise OriginUnavailable("The file was deleted while it was read.") from error

    def _is_refused(self, known: Asset, file: OriginLocation, recipes: Recipes) -> bool:
        """Return whether this release has already refused these bytes with these policies."""
        return (
            known.refused
            and known.error_code in LASTING
            and known.error_release == self._release
            and known.origin_fingerprint == file.fingerprint
            and known.optimisation_policy == recipes.optimisation.name
            and known.made_with in ("", recipes.digest)
        )

    async def _record_refusal(
        self,
        request: Request,
        recipes: Recipes,
        file: OriginLocation,
        error: Unprocessable | TooLarge,
        check: Check | None,
    ) -> None:
        source = Source(
            location=file.location,
            kind=SourceKind.ORIGINAL,
            bytes=file.bytes,
            fingerprint=file.fingerprint,
            extension="",
            tile_width=FASTEST.tile,
            tile_height=FASTEST.tile,
            levels=0,
        )
        draft = build_draft(request, recipes=recipes, source=source, fingerprint=file.fingerprint)
        await self._refusals.refuse(
            draft, error.public, code=error.code, release=self._release, check=check
        )
        await self._remover.remove_without_grace(request.id)
        metrics.INGESTS.labels("failed").inc()


def _is_copied(known: Asset) -> bool:
    """Return whether the asset is served from a copy in the object store, not from its file."""
    source = known.source
    return known.servable and source is not None and source.location.startswith(STORE)


def log_notes(asset_id: AssetId, probe: Probe) -> None:
    """Log what is ignored of an original."""
    for note in probe.notes:
        log.warning("original noted", extra={"asset": str(asset_id), "note": note})


def build_draft(
    request: Request,
    *,
    probe: Probe | None = None,
    recipes: Recipes | None = None,
    source: Source | None = None,
    fingerprint: str = "",
    etag: str = "",
    sha256: str = "",
    batch: int | None = None,
) -> AssetDraft:
    """Return what the catalogue records of a request and of its original, as far as that is known.
    Without `recipes` the policies are recorded as the request names them. `fingerprint`, `etag` and
    `sha256` identify the bytes of the origin.
    """
    optimisation, thumbnails = request.optimisation_policy, request.thumbnail_policy
    made_with = ""
    if recipes is not None:
        optimisation, thumbnails = recipes.optimisation.name, recipes.thumbnails.name
        made_with = recipes.digest
    return AssetDraft(
        id=request.id,
        origin=request.origin,
        width=probe.width if probe else 0,
        height=probe.height if probe else 0,
        media_type=probe.media_type if probe else "",
        source=source,
        origin_fingerprint=fingerprint,
        origin_etag=etag,
        origin_sha256=sha256,
        optimisation_policy=optimisation,
        thumbnail_policy=thumbnails,
        made_with=made_with,
        roles=request.roles,
        max_unauthorised=request.max_unauthorised,
        strings=request.strings,
        numbers=request.numbers,
        tags=request.tags,
        manifests=request.manifests,
        rights=request.rights,
        batch=batch,
        force=request.force,
    )


def planned_probe(probe: Probe, recipes: Recipes) -> Probe:
    """Return the probe with the tiles and levels that the conversion will make: the info document
    is the same before and after it.
    """
    conversion = conversion_for(probe, recipes)
    if conversion is None:
        return probe
    tile = conversion.advertised_tile
    levels = pyramid_levels(probe.dimensions, tile)
    return replace(probe, tile_width=tile, tile_height=tile, levels=levels)


def planned_thumbnails(draft: AssetDraft, recipes: Recipes, known: Asset | None) -> ThumbnailSizes:
    """Return the thumbnails that the conversion will make."""
    sizes = thumbnail_sizes((draft.width, draft.height), recipes.thumbnails)
    return split_by_access(sizes, public_edge_after(draft, known))


def public_edge_after(draft: AssetDraft, known: Asset | None) -> int | None:
    """Return the longest edge that is public once `draft` is recorded over `known`; None without
    limit.
    """
    roles, limit = draft.roles, draft.max_unauthorised
    if roles is None:
        roles = known.roles if known else ()
    if limit is None:
        limit = known.max_unauthorised if known else -1
    return public_edge(roles, limit)


def is_unchanged(known: Asset, request: Request, fingerprint: str, recipes: Recipes) -> bool:
    """Return whether the asset was, or is being, made of these bytes with these policies."""
    return (
        known.state is not AssetState.FAILED
        and known.origin == request.origin
        and known.origin_fingerprint == fingerprint
        and known.optimisation_policy == recipes.optimisation.name
        and known.thumbnail_policy == recipes.thumbnails.name
        and known.made_with in ("", recipes.digest)
    )
