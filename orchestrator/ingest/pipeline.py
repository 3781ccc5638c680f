"""The parts of ingest, composed over one catalogue, object store and imaging pool.

New objects are stored before the catalogue names them; old ones are removed after it no longer
does. A version that is served is served until the next one is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from orchestrator.catalog.catalog import Catalog
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.conversion_jobs import ConversionJobs
from orchestrator.ingest.convert import Converter
from orchestrator.ingest.ingest_run import IngestRunner
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.publish import ObjectWriter
from orchestrator.ingest.publish_version import VersionPublisher
from orchestrator.ingest.register import Registrar
from orchestrator.ingest.reingest import Reingester
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.rights import AssetEditor
from orchestrator.ingest.scratch import Scratch
from orchestrator.ingest.serve_original import OriginalPublisher
from orchestrator.ingest.uploaded_assets import UploadedAssets
from orchestrator.jobs.fair_slots import FairSlots, HostSlots
from orchestrator.jobs.submitter import Submitter
from orchestrator.jobs.worker_options import conversions_at_once
from orchestrator.origins.origin_services import OriginServices
from orchestrator.settings import Settings
from orchestrator.storage.store import ObjectStore

_STORE_S = 600
"""Seconds that storing the objects of one version may take."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of ingest that other packages use."""

    policies: Policies
    registrar: Registrar
    runner: IngestRunner
    converter: Converter
    conversion_jobs: ConversionJobs
    reingester: Reingester
    editor: AssetEditor
    remover: Remover
    uploaded: UploadedAssets


def build_pipeline(
    *,
    catalog: Catalog,
    store: ObjectStore,
    imaging: ImagingPool,
    scratch: Scratch,
    origins: OriginServices,
    policies: Policies,
    submitter: Submitter,
    settings: Settings,
) -> Pipeline:
    """Return the parts of ingest."""
    reserve_s = settings.ingest.total_timeout_s + settings.imaging.convert_timeout_s + _STORE_S
    slots = FairSlots(conversions_at_once(settings))
    remover = Remover(catalog.objects, store, settings.ingest.remove_after_s)
    writer = ObjectWriter(store, catalog.objects, remover)
    release = version("orchestrator")
    registrar = Registrar(
        catalog.versions,
        catalog.refusals,
        imaging,
        remover,
        max_bytes=settings.ingest.max_bytes,
        release=release,
    )
    converter = Converter(
        catalog=catalog,
        store=store,
        imaging=imaging,
        policies=policies,
        scratch=scratch,
        writer=writer,
        slots=slots,
        reserve_s=reserve_s,
        release=release,
    )
    conversion_jobs = ConversionJobs(catalog, submitter, converter)
    editor = AssetEditor(catalog=catalog, writer=writer, converter=converter, remover=remover)
    runner = IngestRunner(
        catalog=catalog,
        scratch=scratch,
        origins=origins,
        policies=policies,
        original_publisher=OriginalPublisher(catalog, imaging, writer, slots),
        version_publisher=VersionPublisher(
            catalog=catalog,
            imaging=imaging,
            scratch=scratch,
            origins=origins,
            writer=writer,
            slots=slots,
        ),
        converter=converter,
        editor=editor,
        remover=remover,
        hosts=HostSlots(settings.jobs.per_host),
        reserve_s=reserve_s,
    )
    reingester = Reingester(
        catalog=catalog,
        store=store,
        registrar=registrar,
        converter=converter,
        conversion_jobs=conversion_jobs,
        submitter=submitter,
        runner=runner,
    )
    return Pipeline(
        policies=policies,
        registrar=registrar,
        runner=runner,
        converter=converter,
        conversion_jobs=conversion_jobs,
        reingester=reingester,
        editor=editor,
        remover=remover,
        uploaded=UploadedAssets(
            catalog=catalog,
            imaging=imaging,
            writer=writer,
            policies=policies,
            conversion_jobs=conversion_jobs,
            editor=editor,
            reserve_s=reserve_s,
        ),
    )
