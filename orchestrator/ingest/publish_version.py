"""The second half of an ingest: from the fetched original to the published version."""

from __future__ import annotations

from uuid import UUID

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Settlement
from orchestrator.errors import Conflict, OverQuota, SourceChanged
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.ingest_context import IngestContext
from orchestrator.ingest.prepare import Prepared, Recipes, prepare
from orchestrator.ingest.publish import ObjectWriter, Version, build_source, plan_objects
from orchestrator.ingest.register import Request, build_draft, log_notes, public_edge_after
from orchestrator.ingest.scratch import Scratch
from orchestrator.jobs.fair_slots import FairSlots
from orchestrator.model import Asset, Source
from orchestrator.origins.origin_services import OriginServices
from orchestrator.origins.reader_types import FetchedFile, OriginLocation

_MAX_TRIES = 5


class VersionPublisher:
    """Makes source and thumbnails of an original, stores them and publishes the version."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        imaging: ImagingPool,
        scratch: Scratch,
        origins: OriginServices,
        writer: ObjectWriter,
        slots: FairSlots,
    ) -> None:
        """Images are converted in the `slots`, which are not held while anything is read from an
        origin or stored.
        """
        self._slots = slots
        self._catalog = catalog
        self._imaging = imaging
        self._scratch = scratch
        self._origins = origins
        self._writer = writer

    async def publish(
        self, context: IngestContext, recipes: Recipes, fetched: FetchedFile, probe: Probe | None
    ) -> Asset:
        """Return the published asset. `probe` describes the original if it was probed before.

        Raises Superseded if a later request was accepted, SourceChanged, OverQuota, and as
        `prepare`.
        """
        async with self._scratch.folder(expected_bytes=2 * fetched.bytes) as folder:
            origin = await self._optimised_origin(context, recipes, fetched)
            async with self._slots.hold(context.id.customer):
                prepared = await prepare(
                    self._imaging,
                    fetched.path,
                    recipes,
                    folder,
                    stages=context.stages,
                    probe=probe,
                    keep_original=origin is not None,
                    check_room=self._scratch.check_room,
                )
            log_notes(context.id, prepared.original)
            context.stages.current = "store"
            source = None
            if origin is not None:
                # Again: it may have been replaced while its thumbnails were made.
                origin = await self._optimised_origin(context, recipes, fetched)
            if origin is not None:
                source = build_source(
                    prepared.probe, origin.location, origin.bytes, origin.fingerprint
                )
            return await self._store_and_publish(context, recipes, fetched, prepared, source=source)

    async def _optimised_origin(
        self, context: IngestContext, recipes: Recipes, fetched: FetchedFile
    ) -> OriginLocation | None:
        """Return where the origin is if its strategy and the policy say that it is the source."""
        if recipes.optimisation.conversion is not None:
            return None
        origin = await self._origins.optimised.locate(context.id.customer, context.request.origin)
        if origin is None:
            return None
        if origin.bytes != fetched.bytes or (
            origin.fingerprint and origin.fingerprint not in (fetched.etag, fetched.fingerprint)
        ):
            raise SourceChanged("The origin changed during the ingest. Try again.")
        return origin

    async def _store_and_publish(
        self,
        context: IngestContext,
        recipes: Recipes,
        fetched: FetchedFile,
        prepared: Prepared,
        *,
        source: Source | None,
    ) -> Asset:
        """Store the objects and switch the asset to them, with the rights and the description that
        are requested at that moment.
        """
        versions = self._catalog.versions
        for _ in range(_MAX_TRIES):
            now = await context.read_current(self._catalog.assets)
            draft = build_draft(
                Request.accepted_of(now),
                probe=prepared.original,
                recipes=recipes,
                fingerprint=fetched.fingerprint,
                etag=fetched.etag,
                sha256=fetched.sha256,
            )
            number = await versions.next_version()
            version = Version(context.id, number, public_edge_after(draft, now))
            plan = await plan_objects(version, prepared, source)
            reserved = await self._reserve(context, plan.bytes)
            with context.stages.step("store"):
                async with self._writer.write(plan) as stored:
                    context.stages.current = "record"
                    attempt = context.attempt("completed", number)
                    published = await versions.publish(
                        draft,
                        number,
                        stored.source,
                        stored.thumbnails,
                        Settlement(stored.objects, reserved, attempt),
                        generation=now.generation,
                    )
            if published is not None:
                metrics.INGEST_STORED_BYTES.inc(plan.bytes)
                return published
            # A later request was accepted: a change of rights, an ingest or a deletion.
        raise Conflict("The asset is being changed by other requests. Try again.")

    async def _reserve(self, context: IngestContext, new_bytes: int) -> UUID | None:
        """Reserve room for the version. An original that is served until then gives way first: of
        concurrent ingests, none is refused for the original of another one that is refused, too.
        """
        try:
            return await context.reservation.reserve(new_bytes)
        except OverQuota:
            if not await self._catalog.ingest_states.withdraw(context.id, context.generation):
                raise
            return await context.reservation.reserve(new_bytes)
