"""Serves the original of a first ingest while it is converted.

The original is stored, and the catalogue names it, with the tiles and thumbnail sizes that the
conversion will make. The end of the ingest replaces it, or withdraws it after a failure.
"""

from __future__ import annotations

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Settlement
from orchestrator.errors import OverQuota
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.ingest_context import IngestContext
from orchestrator.ingest.prepare import Recipes, conversion_for, thumbnail_sizes
from orchestrator.ingest.publish import ObjectWriter, Version, plan_original, split_by_access
from orchestrator.ingest.register import Request, build_draft, planned_probe, public_edge_after
from orchestrator.jobs.fair_slots import FairSlots
from orchestrator.origins.reader_types import FetchedFile


class OriginalPublisher:
    """Publishes originals of assets that have nothing to show."""

    def __init__(
        self, catalog: Catalog, imaging: ImagingPool, writer: ObjectWriter, slots: FairSlots
    ) -> None:
        """Originals are probed in the `slots` for conversions."""
        self._slots = slots
        self._catalog = catalog
        self._imaging = imaging
        self._writer = writer

    async def publish(
        self, context: IngestContext, recipes: Recipes, fetched: FetchedFile
    ) -> Probe | None:
        """Serve the asset from the fetched original; `context.known` becomes the asset as it then
        is. Returns the probe of the original if it was probed.

        Does nothing for an asset that can be served already, for an original that is not converted,
        or if the customer's quota has no room for original and source together. Raises Superseded,
        Unprocessable, TooLarge, Unavailable.
        """
        known = context.known
        if known.servable or recipes.optimisation.conversion is None:
            return None
        async with self._slots.hold(context.id.customer):
            with context.stages.step("probe"):
                probe = await self._imaging.probe(fetched.path)
        if conversion_for(probe, recipes) is None:
            return probe
        now = await context.read_current(self._catalog.assets)
        draft = build_draft(Request.accepted_of(now), probe=probe, recipes=recipes)
        number = await self._catalog.versions.next_version()
        edge = public_edge_after(draft, now)
        sizes = split_by_access(thumbnail_sizes(probe.dimensions, recipes.thumbnails), edge)
        version = Version(context.id, number, edge)
        plan = await plan_original(version, fetched.path, planned_probe(probe, recipes), sizes)
        try:
            reserved = await context.reservation.reserve(plan.bytes)
        except OverQuota:  # the source may be smaller than the original
            return probe
        with context.stages.step("store"):
            async with self._writer.write(plan) as stored:
                asset = await self._catalog.ingest_states.publish_original(
                    draft,
                    number,
                    stored.source,
                    stored.thumbnails,
                    Settlement(stored.objects, reserved),
                    generation=now.generation,
                )
        context.known = asset or known
        return probe
