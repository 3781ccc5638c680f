"""Answering from an original while it is converted: the first ingest of a picture need not be over
for the picture to be seen.

The original is stored, and named by the catalogue with the tiles and sizes the conversion will
have; the end of the ingest replaces it, or takes it back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Settlement
from orchestrator.errors import OverQuota
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.prepare import Recipes, sizes_for
from orchestrator.ingest.publish import Publisher, Version, plan_original, split
from orchestrator.ingest.register import Request, as_planned, draft_of, public_edge_of
from orchestrator.ingest.stage_timer import Stages
from orchestrator.model import Asset, SourceKind
from orchestrator.origins.reader_types import FetchedFile

Reserve = Callable[[int], Awaitable[UUID | None]]
"""Reserves room for so many bytes instead of what was reserved, which whoever gave it holds and
gives up. Raises OverQuota; what was reserved stays then.
"""


class Answering:
    """Makes assets answerable that have nothing to show."""

    def __init__(self, catalog: Catalog, imaging: ImagingPool, publisher: Publisher) -> None:
        self._catalog = catalog
        self._imaging = imaging
        self._publisher = publisher

    async def begin(
        self,
        request: Request,
        recipes: Recipes,
        fetched: FetchedFile,
        known: Asset | None,
        reserve: Reserve,
        stages: Stages,
    ) -> tuple[Asset | None, Probe | None]:
        """Have the asset answered from what was fetched; the asset as it now is, and what was
        found of the original if it was looked at.

        Nothing happens to an asset that shows something already, to an original that is not
        converted at all, or where the customer's quota has no room for it beside the rest. Raises
        Unprocessable, TooLarge, Unavailable.
        """
        if (known is not None and known.servable) or recipes.optimisation.conversion is None:
            return known, None
        with stages.step("probe"):
            probe = await self._imaging.probe(fetched.path)
        if probe.kind is not SourceKind.ORIGINAL:
            return known, probe
        draft = draft_of(request, probe, recipes, None, "")
        number = await self._catalog.assets.next_version()
        edge = public_edge_of(draft, await self._catalog.assets.get(request.id))
        sizes = split(sizes_for(probe.dimensions, recipes.thumbnails), edge)
        plan = await plan_original(
            Version(request.id, number, edge), fetched.path, as_planned(probe, recipes), sizes
        )
        try:
            reservation = await reserve(plan.bytes)
        except OverQuota:  # what is made of it may be smaller
            return known, probe
        with stages.step("store"):
            async with self._publisher.stored(plan) as stored:
                asset = await self._catalog.ingesting.answerable(
                    draft,
                    number,
                    stored.source,
                    stored.thumbnails,
                    Settlement(stored.objects, reservation),
                )
        return asset or known, probe
