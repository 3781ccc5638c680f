"""One ingest of one asset, from its request to its published version, recorded however it ends.

Nothing is stored before its quota is reserved, nothing published but in one transaction; what was
served before is served until then, and on if it fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import AssetDraft, Attempt, AttemptOutcome, Settlement
from orchestrator.errors import (
    AssetNotFound,
    Conflict,
    Fault,
    OrchestratorError,
    SourceChanged,
    Unavailable,
    fault_of,
)
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.convert import Conversions
from orchestrator.ingest.hooks import AfterIngest
from orchestrator.ingest.policies import USE_ORIGINAL, Policies
from orchestrator.ingest.prepare import Prepared, Recipes, prepare
from orchestrator.ingest.publish import Publisher, Version, plan_objects, source_of
from orchestrator.ingest.register import Request, draft_of, is_unchanged, public_edge_of
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.rights import Filing
from orchestrator.ingest.scratch import Scratch
from orchestrator.ingest.serve_original import Answering
from orchestrator.ingest.stage_timer import Stages
from orchestrator.model import STORE, Asset, AssetId, Source, file_fingerprint
from orchestrator.origins.file_reader import file_status
from orchestrator.origins.origin_address import local_path, scheme_of
from orchestrator.origins.origin_services import OriginServices
from orchestrator.origins.reader_types import FetchedFile, NotModified

log = logging.getLogger(__name__)
_RACES = 5

WillRetry = Callable[[Exception, Fault], bool]
"""Tells whether whoever asked for an ingest that failed so will try it again by itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The asset as it now is; `changed` is False when its origin had nothing new. `bytes` of the
    original read.
    """

    asset: Asset
    changed: bool
    bytes: int = 0


@dataclass(slots=True)
class _Run:
    """What is known of the ingest under way."""

    request: Request
    job: int | None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    stages: Stages = field(default_factory=Stages)
    declared: bool = False
    bytes: int = 0
    reservation: UUID | None = None

    @property
    def id(self) -> AssetId:
        return self.request.id

    def attempt(
        self, outcome: AttemptOutcome, version: int | None = None, fault: Fault | None = None
    ) -> Attempt:
        return Attempt(
            asset=self.id,
            started=self.started,
            outcome=outcome,
            job=self.job,
            version=version,
            bytes=self.bytes,
            fault=fault,
        )


class Ingests:
    """Takes pictures in, one asset at a time."""

    def __init__(  # noqa: PLR0913  the parts of one ingest
        self,
        *,
        catalog: Catalog,
        imaging: ImagingPool,
        scratch: Scratch,
        origins: OriginServices,
        policies: Policies,
        publisher: Publisher,
        conversions: Conversions,
        filing: Filing,
        remover: Remover,
        after: AfterIngest,
        reserve_s: float,
    ) -> None:
        self._catalog = catalog
        self._imaging = imaging
        self._scratch = scratch
        self._origins = origins
        self._policies = policies
        self._publisher = publisher
        self._conversions = conversions
        self._filing = filing
        self._remover = remover
        self._after = after
        self._reserve_s = reserve_s
        self._answering = Answering(catalog, imaging, publisher)

    async def ingest(
        self, request: Request, job: int | None = None, *, will_retry: WillRetry | None = None
    ) -> Outcome:
        """Take one picture in; see `Pipeline.ingest`."""
        run = _Run(request, job)
        async with self._conversions.alone(request.id):
            try:
                outcome = await self._take(run)
            except Exception as error:
                await self._failed(run, error, will_retry)
                raise
            finally:
                await self._release(run)
        seconds = (datetime.now(UTC) - run.started).total_seconds()
        metrics.INGESTS.labels("completed" if outcome.changed else "unchanged").inc()
        if outcome.changed:
            metrics.INGEST_SECONDS.observe(seconds)
            metrics.INGEST_PIXELS.inc(outcome.asset.width * outcome.asset.height)
            self._after.happened("ingested", outcome.asset)
        log.info(
            "ingested" if outcome.changed else "nothing new to ingest",
            extra={
                "asset": str(request.id),
                "version": outcome.asset.version,
                "bytes": outcome.bytes,
                "elapsed_ms": round(seconds * 1000),
            },
        )
        return outcome

    async def narrow(self, request: Request, known: Asset) -> Asset:
        """See `Pipeline.narrow`."""
        asset = await self._filing.narrow(request, known)
        if asset is not known:
            self._after.happened("changed", asset)
        return asset

    async def _take(self, run: _Run) -> Outcome:
        request = run.request
        known = await self._catalog.assets.get(run.id)
        if known is not None:
            known = await self.narrow(request, known)
        recipes = await self._recipes(request)
        if known is not None and await self._is_untouched(known, request, recipes):
            return await self._unchanged(run, known)
        await self._declare(run)
        await self._reserve(run, 0)
        async with self._scratch.folder() as folder:
            with run.stages.step("fetch"):
                etag = _known_etag(known, request, recipes)
                fetched = await self._origins.fetcher.fetch(
                    run.id.customer, request.origin, folder / "original", etag
                )
            if isinstance(fetched, NotModified):
                found = draft_of(request, None, None, None, "", origin_etag=fetched.etag)
                return await self._unchanged(run, known, found)
            run.bytes = fetched.bytes
            metrics.INGEST_BYTES.inc(fetched.bytes)
            if known is not None and _has_bytes(known, request, fetched, recipes):
                found = _draft(request, None, None, fetched)
                return await self._unchanged(run, known, found)
            known, probe = await self._answering.begin(
                request, recipes, fetched, known, partial(self._reserve, run), run.stages
            )
            return await self._make(run, recipes, (fetched, probe), known)

    async def _reserve(self, run: _Run, new_bytes: int) -> UUID | None:
        run.reservation = await self._catalog.quotas.reserve(
            run.id, new_bytes, self._reserve_s, instead_of=run.reservation
        )
        return run.reservation

    async def _make(
        self,
        run: _Run,
        recipes: Recipes,
        original: tuple[FetchedFile, Probe | None],
        known: Asset | None,
    ) -> Outcome:
        fetched, probe = original
        async with self._scratch.folder(expected_bytes=2 * fetched.bytes) as folder:
            prepared = await prepare(
                self._imaging, fetched.path, recipes, folder, run.stages, found=probe
            )
            run.stages.current = "store"
            source = await self._in_place(run, recipes, fetched, prepared)
            published = await self._publish(run, recipes, (fetched, prepared, source), known)
        return Outcome(published, changed=True, bytes=fetched.bytes)

    async def _publish(
        self,
        run: _Run,
        recipes: Recipes,
        made: tuple[FetchedFile, Prepared, Source | None],
        known: Asset | None,
    ) -> Asset:
        """Store what was made and flip the asset to it, under the rights it has at that moment."""
        fetched, prepared, in_place = made
        draft = _draft(run.request, prepared.original, recipes, fetched)
        for _ in range(_RACES):
            number = await self._catalog.assets.next_version()
            now = await self._catalog.assets.get(run.id)
            if now is None:
                raise AssetNotFound("The image was deleted while it was taken in.")
            if known is not None and now.source != known.source:
                raise Conflict("A later ingest of the image got there first.")
            version = Version(run.id, number, public_edge_of(draft, now))
            plan = await plan_objects(version, prepared, in_place)
            reservation = await self._reserve(run, plan.bytes)
            with run.stages.step("store"):
                async with self._publisher.stored(plan) as stored:
                    run.stages.current = "record"
                    attempt = run.attempt("completed", number)
                    published = await self._catalog.assets.publish(
                        draft,
                        number,
                        stored.source,
                        stored.thumbnails,
                        Settlement(stored.objects, reservation, attempt),
                    )
            if published is not None:
                metrics.INGEST_STORED_BYTES.inc(plan.bytes)
                return published
            # overtaken by a change of rights, a deletion, a file of the folder
        raise Conflict("The image keeps changing; try again.")

    async def _in_place(
        self, run: _Run, recipes: Recipes, fetched: FetchedFile, prepared: Prepared
    ) -> Source | None:
        """The origin itself as the source, where its strategy and the policy say so."""
        if recipes.optimisation.conversion is not None:
            return None
        place = await self._origins.optimised.locate(run.id.customer, run.request.origin)
        if place is None:
            return None
        if place.bytes != fetched.bytes or (
            place.fingerprint and place.fingerprint not in (fetched.etag, fetched.fingerprint)
        ):
            raise SourceChanged("The origin changed while it was taken in.")
        return source_of(prepared.probe, place.location, place.bytes, place.fingerprint)

    async def _recipes(self, request: Request) -> Recipes:
        customer, name = request.id.customer, request.optimisation_policy
        if not name and await self._origins.optimised.is_optimised(customer, request.origin):
            name = USE_ORIGINAL
        return Recipes(
            await self._policies.optimisation(customer, name),
            await self._policies.thumbnails(customer, request.thumbnail_policy),
        )

    async def _is_untouched(self, known: Asset, request: Request, recipes: Recipes) -> bool:
        """Tell, without reading it, whether a local file is what the asset was made from."""
        if request.force or scheme_of(request.origin) != "file":
            return False
        status = await asyncio.to_thread(file_status, local_path(request.origin))
        return _is_made_of(known, request, file_fingerprint(status), recipes)

    async def _unchanged(
        self, run: _Run, known: Asset | None, found: AssetDraft | None = None
    ) -> Outcome:
        """Nothing to make; what the request says of rights and description still counts."""
        if known is None:
            raise Conflict("The image was changed meanwhile.")
        run.stages.current = "record"
        request = run.request
        before = known
        if _differs(request, known, "roles", "max_unauthorised"):
            known = await self._filing.set_access(
                run.id, roles=request.roles, max_unauthorised=request.max_unauthorised
            )
        if _differs(request, known, *_FIELDS):
            given = {name: getattr(request, name) for name in _FIELDS}
            told = {name: value for name, value in given.items() if value is not None}
            known = await self._catalog.assets.set_fields(run.id, **told)
        attempt = run.attempt("unchanged", known.version)
        now = await self._catalog.ingesting.unchanged(run.id, attempt, found)
        if now is None:
            raise AssetNotFound("The image was deleted while it was taken in.")
        if (before.version, before.rights) != (now.version, now.rights):
            self._after.happened("changed", now)
        return Outcome(now, changed=False, bytes=run.bytes)

    async def _declare(self, run: _Run) -> None:
        await self._catalog.ingesting.declare(draft_of(run.request, None, None, None, ""))
        run.declared = True

    async def _failed(self, run: _Run, error: Exception, will_retry: WillRetry | None) -> None:
        """Record why; when the catalogue is away, the job or the sweeper comes back to it."""
        fault = fault_of(error, run.stages.current)
        if isinstance(error, OrchestratorError):
            error.stage = fault.stage
        if fault.code == "internal":
            log.exception("ingest broke down", extra={"asset": str(run.id)})
        metrics.INGEST_FAULTS.labels(fault.stage, fault.code).inc()
        attempt = run.attempt("failed", fault=fault)
        try:
            if not run.declared and await self._catalog.assets.get(run.id) is None:
                await self._declare(run)
            if will_retry is not None and will_retry(error, fault):
                await self._catalog.ingesting.retrying(attempt)
                return
            failed = await self._catalog.ingesting.failed(run.id, fault.detail, attempt)
            await self._remover.at_once(run.id)
        except Unavailable:
            log.warning("failed ingest not recorded", extra={"asset": str(run.id)})
            return
        metrics.INGESTS.labels("failed").inc()
        log.info(  # whoever asked for it is told, and says so
            "ingest failed",
            extra={
                "asset": str(run.id),
                "stage": fault.stage,
                "code": fault.code,
                "reason": fault.detail,
            },
        )
        if failed is not None:
            self._after.happened("failed", failed, fault.detail)

    async def _release(self, run: _Run) -> None:
        try:
            await self._catalog.quotas.release(run.reservation)
        except Unavailable:
            log.warning("reservation left to expire", extra={"asset": str(run.id)})


_FIELDS = ("strings", "numbers", "tags", "rights")


def _known_etag(known: Asset | None, request: Request, recipes: Recipes) -> str:
    """The ETag that makes reading the origin again unnecessary, if it has it still."""
    if known is None or not _is_made_of(known, request, known.origin_fingerprint, recipes):
        return ""
    return known.origin_etag


def _draft(
    request: Request, probe: Probe | None, recipes: Recipes | None, fetched: FetchedFile
) -> AssetDraft:
    return draft_of(
        request,
        probe,
        recipes,
        None,
        fetched.fingerprint,
        origin_etag=fetched.etag,
        origin_sha256=fetched.sha256,
    )


def _has_bytes(known: Asset, request: Request, fetched: FetchedFile, recipes: Recipes) -> bool:
    """Tell whether the asset is made of these very bytes, wherever they were before."""
    if _is_made_of(known, request, fetched.fingerprint, recipes):
        return True
    source = known.source
    if source is None or known.origin_sha256 != fetched.sha256:
        return False
    if known.origin != request.origin and not source.location.startswith(STORE):
        return False  # the origin is the source
    before = replace(request, origin=known.origin)
    return _is_made_of(known, before, known.origin_fingerprint, recipes)


def _is_made_of(known: Asset, request: Request, fingerprint: str, recipes: Recipes) -> bool:
    """Tell whether the asset is completely made of these bytes by these policies."""
    is_whole = known.servable and known.thumbnails_version > 0 and bool(fingerprint)
    return is_whole and not request.force and is_unchanged(known, request, fingerprint, recipes)


def _differs(request: Request, known: Asset, *names: str) -> bool:
    return any(getattr(request, name) not in (None, getattr(known, name)) for name in names)
