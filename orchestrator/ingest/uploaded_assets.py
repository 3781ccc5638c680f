"""Registers published uploads as assets: the original is stored and served at once, and a job
converts it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Settlement
from orchestrator.errors import AssetNotFound
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.conversion_jobs import ConversionJobs
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.prepare import Recipes
from orchestrator.ingest.publish import ObjectWriter, Version, plan_original
from orchestrator.ingest.register import (
    Request,
    build_draft,
    is_unchanged,
    log_notes,
    planned_probe,
    planned_thumbnails,
    public_edge_after,
)
from orchestrator.ingest.reservation import Reservation
from orchestrator.ingest.rights import AssetEditor
from orchestrator.model import AssetId, AssetState


class UploadedAssets:
    """The assets of published uploads."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        imaging: ImagingPool,
        writer: ObjectWriter,
        policies: Policies,
        conversion_jobs: ConversionJobs,
        editor: AssetEditor,
        reserve_s: float,
    ) -> None:
        """`reserve_s`: quota reserved by a killed process is free again after this."""
        self._catalog = catalog
        self._imaging = imaging
        self._writer = writer
        self._policies = policies
        self._conversion_jobs = conversion_jobs
        self._editor = editor
        self._reserve_s = reserve_s

    async def add(
        self, asset_id: AssetId, path: Path, *, origin: str, sha256: str, policy: str
    ) -> None:
        """Register the file at `path`, which is copied: when this returns, every request for the
        asset can be answered. The same bytes under the same policies change nothing.

        Raises InvalidInput (the policy does not exist), OverQuota, Unprocessable, TooLarge,
        Overloaded, Unavailable.
        """
        recipes = Recipes(
            await self._policies.optimisation(asset_id.customer, policy),
            await self._policies.thumbnails(asset_id.customer, ""),
        )
        request = Request(asset_id, origin)
        known = await self._catalog.assets.get(asset_id)
        if known is not None and is_unchanged(known, request, sha256, recipes):
            if known.state is AssetState.REGISTERED:  # its job may not have been recorded
                await self._conversion_jobs.submit(known)
            return
        probe = await self._imaging.probe(path)
        log_notes(asset_id, probe)
        draft = build_draft(
            request, probe=probe, recipes=recipes, fingerprint=sha256, sha256=sha256
        )
        number = await self._catalog.versions.next_version()
        version = Version(asset_id, number, public_edge_after(draft, known))
        sizes = planned_thumbnails(draft, recipes, known)
        plan = await plan_original(version, path, planned_probe(probe, recipes), sizes)
        reservation = Reservation(self._catalog.quotas, asset_id, self._reserve_s)
        try:
            reserved = await reservation.reserve(plan.bytes)
            async with self._writer.write(plan) as stored:
                registered = await self._catalog.versions.register(
                    replace(draft, source=stored.source),
                    thumbnails=sizes,
                    version=number,
                    settlement=Settlement(stored.objects, reserved),
                )
        finally:
            await reservation.release()
        metrics.INGESTS.labels("registered").inc()
        await self._conversion_jobs.submit(registered.asset)

    async def remove(self, asset_id: AssetId) -> None:
        """Delete the asset; a missing one is no error. Raises CatalogUnavailable."""
        try:
            await self._editor.delete(asset_id)
        except AssetNotFound:
            return
