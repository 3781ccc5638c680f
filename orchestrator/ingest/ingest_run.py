"""One ingest of one asset, from its request to its published version. The outcome is recorded
however it ends.

Quota is reserved before anything is stored. One transaction publishes. The version before is served
until then, and after a failure.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.accepted_requests import Check
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import AssetDraft
from orchestrator.errors import (
    Conflict,
    OrchestratorError,
    Superseded,
    Unavailable,
    fault_of,
)
from orchestrator.ingest.convert import Converter
from orchestrator.ingest.ingest_context import (
    IngestContext,
    OnFetched,
    Outcome,
    WillRetry,
    nothing_follows,
)
from orchestrator.ingest.policies import USE_ORIGINAL, Policies
from orchestrator.ingest.prepare import Recipes
from orchestrator.ingest.publish_version import VersionPublisher
from orchestrator.ingest.register import Request, build_draft, is_unchanged
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.reservation import Reservation
from orchestrator.ingest.rights import AssetEditor
from orchestrator.ingest.scratch import Scratch
from orchestrator.ingest.serve_original import OriginalPublisher
from orchestrator.jobs.fair_slots import HostSlots
from orchestrator.jobs.submitter import host_of
from orchestrator.model import STORE, Asset, AssetId
from orchestrator.origins.file_reader import location_of_file
from orchestrator.origins.origin_address import local_path, scheme_of
from orchestrator.origins.origin_services import OriginServices
from orchestrator.origins.reader_types import FetchedFile, NotModified

log = logging.getLogger(__name__)
_MAX_TRIES = 5


class IngestRunner:
    """Ingests assets, one ingest of an asset at a time."""

    def __init__(  # noqa: PLR0913  the parts of one ingest
        self,
        *,
        catalog: Catalog,
        scratch: Scratch,
        origins: OriginServices,
        policies: Policies,
        original_publisher: OriginalPublisher,
        version_publisher: VersionPublisher,
        converter: Converter,
        editor: AssetEditor,
        remover: Remover,
        hosts: HostSlots,
        reserve_s: float,
    ) -> None:
        """An origin is read in one of the slots of its host (`hosts`). `reserve_s`: quota reserved
        by a killed process is free again after this.
        """
        self._catalog = catalog
        self._scratch = scratch
        self._origins = origins
        self._policies = policies
        self._original_publisher = original_publisher
        self._version_publisher = version_publisher
        self._converter = converter
        self._editor = editor
        self._remover = remover
        self._hosts = hosts
        self._reserve_s = reserve_s

    async def accept(
        self,
        request: Request,
        *,
        batch: int | None = None,
        check: Check | None = None,
        job: int | None = None,
    ) -> Asset:
        """Accept a request to ingest an asset, and return the asset: it has the generation of the
        request, its state is ingesting, its error is cleared, what is served stays. Earlier
        requests are superseded. Raises as `IngestStates.accept`.
        """
        draft = build_draft(request, batch=batch)
        return await self._catalog.ingest_states.accept(draft, check=check, job=job)

    async def ingest(
        self,
        request: Request,
        job: int | None = None,
        *,
        will_retry: WillRetry | None = None,
        on_fetched: OnFetched = nothing_follows,
    ) -> Outcome:
        """Accept a request and ingest the asset. Raises as `accept` and `run`."""
        asset = await self.accept(request, job=job)
        return await self.run(
            asset.id, asset.ingest_generation, job, will_retry=will_retry, on_fetched=on_fetched
        )

    async def run(
        self,
        asset_id: AssetId,
        generation: int,
        job: int | None = None,
        *,
        will_retry: WillRetry | None = None,
        on_fetched: OnFetched = nothing_follows,
        copy: FetchedFile | None = None,
    ) -> Outcome:
        """Ingest an asset for the accepted request of this generation, until it is converted and
        published. Every attempt is recorded, with the number of its `job`. Fetching occupies no
        slot for conversions and no connection of the database; `on_fetched` is awaited when the
        origin has been read. With a `copy` of the origin it is not fetched.

        Raises what `fault_of` describes: InvalidInput (policy, origin), OriginUnavailable,
        NotAnImage, Unprocessable, TooLarge, OverQuota, NoRoom, Unavailable, Overloaded, Conflict,
        Superseded if a later request was accepted.

        After a failure the version before is served, and the asset and its attempt have the reason.
        If `will_retry` returns True for the failure, the asset stays in the state ingesting.
        """
        reservation = Reservation(self._catalog.quotas, asset_id, self._reserve_s)
        context = IngestContext(asset_id, generation, reservation, job, on_fetched, copy)
        async with self._converter.lock(asset_id):
            try:
                outcome = await self._run_steps(context)
            except Exception as error:  # recorded with the asset, then raised to the caller
                await self._record_failure(context, error, will_retry)
                raise
            finally:
                await reservation.release()
        _report(context, outcome)
        return outcome

    async def _run_steps(self, context: IngestContext) -> Outcome:
        known = await context.read_current(self._catalog.assets)
        if known.requested is None:  # an earlier run of the job published, then its worker died
            return Outcome(known, changed=False)
        request = context.request = Request.accepted_of(known)
        known = context.known = await self._editor.narrow(context.id, context.generation)
        recipes = await self._load_recipes(request)
        if await _is_file_unchanged(known, request, recipes):
            return await self._record_unchanged(context)
        await context.reservation.reserve(0)
        async with self._scratch.folder() as folder:
            fetched = context.copy or await self._fetch(context, recipes, folder / "original")
            if isinstance(fetched, NotModified):
                draft = build_draft(request, etag=fetched.etag)
                return await self._record_unchanged(context, draft)
            context.bytes = fetched.bytes
            metrics.INGEST_BYTES.inc(fetched.bytes)
            await context.on_fetched()
            if _has_same_bytes(known, request, fetched, recipes):
                draft = build_draft(
                    request,
                    fingerprint=fetched.fingerprint,
                    etag=fetched.etag,
                    sha256=fetched.sha256,
                )
                return await self._record_unchanged(context, draft)
            probe = await self._original_publisher.publish(context, recipes, fetched)
            asset = await self._version_publisher.publish(context, recipes, fetched, probe)
        return Outcome(asset, changed=True, bytes=fetched.bytes)

    async def _fetch(
        self, context: IngestContext, recipes: Recipes, target: Path
    ) -> FetchedFile | NotModified:
        """Copy the origin to the new file `target`."""
        request, customer = context.request, context.id.customer
        etag = _etag_to_compare(context.known, request, recipes)
        with context.stages.step("fetch"):
            async with self._hosts.hold(host_of(request.origin), customer):
                return await self._origins.fetcher.fetch(customer, request.origin, target, etag)

    async def _load_recipes(self, request: Request) -> Recipes:
        customer, name = request.id.customer, request.optimisation_policy
        if not name and await self._origins.optimised.is_optimised(customer, request.origin):
            name = USE_ORIGINAL
        return Recipes(
            await self._policies.optimisation(customer, name),
            await self._policies.thumbnails(customer, request.thumbnail_policy),
        )

    async def _record_unchanged(
        self, context: IngestContext, draft: AssetDraft | None = None
    ) -> Outcome:
        """Record that the bytes are unchanged, and apply the rights and descriptive fields of the
        request. `draft` has the current origin of these bytes.
        """
        context.stages.current = "record"
        for _ in range(_MAX_TRIES):
            known = await self._editor.apply_requested(context.id, context.generation)
            asset = await self._catalog.ingest_states.record_unchanged(
                context.id,
                context.attempt("unchanged", known.version),
                draft,
                generation=known.generation,
            )
            if asset is not None:
                return Outcome(asset, changed=False, bytes=context.bytes)
        raise Conflict("The asset is being changed by other requests. Try again.")

    async def _record_failure(
        self, context: IngestContext, error: Exception, will_retry: WillRetry | None
    ) -> None:
        """Record why the ingest failed. If the catalogue does not answer, the retried job or the
        sweeper records it.
        """
        fault = fault_of(error, context.stages.current)
        if isinstance(error, OrchestratorError):
            error.stage = fault.stage
        fields = {"asset": str(context.id), "stage": fault.stage, "code": fault.code}
        if fault.code == "internal":
            log.exception("ingest failed unexpectedly", extra=fields)
        is_superseded = isinstance(error, Superseded)
        if not is_superseded:
            metrics.INGEST_FAULTS.labels(fault.stage, fault.code).inc()
        attempt = context.attempt("superseded" if is_superseded else "failed", fault=fault)
        try:
            if is_superseded or (will_retry is not None and will_retry(error, fault)):
                await self._catalog.attempts.record(attempt)
                return
            failed = await self._catalog.ingest_states.record_failure(
                context.id, fault.detail, attempt, generation=context.generation
            )
            await self._remover.remove_without_grace(context.id)
        except Unavailable as outage:
            log.warning("failed ingest not recorded", extra={**fields, "reason": outage.public})
            return
        metrics.INGESTS.labels("failed").inc()
        # Not a warning: the caller reports the error.
        log.info("ingest failed", extra={**fields, "reason": fault.detail})
        if failed is None:
            raise Superseded from error


def _report(context: IngestContext, outcome: Outcome) -> None:
    asset = outcome.asset
    seconds = (datetime.now(UTC) - context.started).total_seconds()
    metrics.INGESTS.labels("completed" if outcome.changed else "unchanged").inc()
    if outcome.changed:
        metrics.INGEST_SECONDS.observe(seconds)
        metrics.INGEST_PIXELS.inc(asset.width * asset.height)
    log.info(
        "asset ingested" if outcome.changed else "asset unchanged",
        extra={
            "asset": str(asset.id),
            "version": asset.version,
            "bytes": outcome.bytes,
            "elapsed_ms": round(seconds * 1000),
        },
    )


async def _is_file_unchanged(known: Asset, request: Request, recipes: Recipes) -> bool:
    """Return, without reading it, whether a local file is the one that the asset was made of."""
    if request.force or not known.servable or scheme_of(request.origin) != "file":
        return False
    file = await asyncio.to_thread(location_of_file, local_path(request.origin))
    return _is_made_of(known, request, file.fingerprint, recipes)


def _etag_to_compare(known: Asset, request: Request, recipes: Recipes) -> str:
    """Return the ETag with which the origin need not be read again; "" for none."""
    if not _is_made_of(known, request, known.origin_fingerprint, recipes):
        return ""
    return known.origin_etag


def _has_same_bytes(known: Asset, request: Request, fetched: FetchedFile, recipes: Recipes) -> bool:
    """Return whether the asset is made of these bytes, also if they had another origin before."""
    if _is_made_of(known, request, fetched.fingerprint, recipes):
        return True
    source = known.source
    if source is None or known.origin_sha256 != fetched.sha256:
        return False
    if known.origin != request.origin and not source.location.startswith(STORE):
        return False  # the origin is the source
    same_origin = replace(request, origin=known.origin)
    return _is_made_of(known, same_origin, known.origin_fingerprint, recipes)


def _is_made_of(known: Asset, request: Request, fingerprint: str, recipes: Recipes) -> bool:
    """Return whether the asset is complete and made of these bytes with these policies."""
    is_complete = known.servable and known.thumbnails_version > 0 and bool(fingerprint)
    return is_complete and not request.force and is_unchanged(known, request, fingerprint, recipes)
