"""Builds the services of uploads from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.catalog.catalog import Catalog
from orchestrator.imaging.pool import ImagingPool
from orchestrator.jobs.submitter import Submitter
from orchestrator.settings import Settings
from orchestrator.storage.s3_store import S3Store
from orchestrator.uploads.active_pictures import ActivePictures
from orchestrator.uploads.background_formats import FormatJobs, FormatMaker
from orchestrator.uploads.direct_uploads import DirectUploads
from orchestrator.uploads.intake import Intake, OpenFolder
from orchestrator.uploads.partial_uploads import PartialLimits, PartialUploads
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.picture_importer import PictureImporter
from orchestrator.uploads.picture_publisher import Publisher
from orchestrator.uploads.publication import AssetRules, Publication, PublishedAssets
from orchestrator.uploads.resizer import Resizer
from orchestrator.uploads.upload_access import UploadAccess
from orchestrator.uploads.upload_permits import UploadPermits
from orchestrator.uploads.upload_stores import UploadStores, location_of, open_stores
from orchestrator.uploads.upload_sweeper import UploadSweeper
from orchestrator.uploads.version_maker import VersionMaker


@dataclass(frozen=True, slots=True)
class UploadServices:
    """The services of uploads in one process."""

    stores: UploadStores
    access: UploadAccess
    intake: Intake
    publisher: Publisher
    pictures: ActivePictures
    sweeper: UploadSweeper
    formats: FormatMaker
    maker: VersionMaker
    files: PictureFiles
    publication: Publication
    permits: UploadPermits
    partial: PartialUploads
    direct: DirectUploads | None
    """None if `incoming` is a folder."""
    resizer: Resizer
    importer: PictureImporter


@asynccontextmanager
async def open_uploads(
    settings: Settings,
    *,
    catalog: Catalog,
    submitter: Submitter,
    pool: ImagingPool,
    derivatives: DiskCache,
    flights: SingleFlight,
    assets: PublishedAssets,
    open_folder: OpenFolder,
) -> AsyncIterator[UploadServices | None]:
    """Open the stores of uploads and build the services; None if they are not configured."""
    uploads, rows = settings.uploads, catalog.uploads
    if not uploads.enabled:
        yield None
        return
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(uploads, settings.storage))
        maker = VersionMaker(pool, uploads)
        files = PictureFiles(maker)
        formats = tuple(uploads.background_formats)
        publication = Publication(
            stores=stores,
            files=files,
            maker=maker,
            rows=rows,
            assets=assets,
            asset_rules=AssetRules(
                uploads.customer,
                uploads.space,
                uploads.optimisation_policy,
                partial(location_of, uploads, "active"),
            ),
            record_formats=FormatJobs(submitter, formats).record,
        )
        publisher = Publisher(
            stores=stores,
            files=files,
            maker=maker,
            rows=rows,
            publication=publication,
            pool=pool,
            lock=catalog.exclusive,
            open_folder=open_folder,
        )
        intake = Intake(
            stores=stores,
            files=files,
            maker=maker,
            rows=rows,
            pool=pool,
            settings=uploads,
            open_folder=open_folder,
        )
        direct = None
        if isinstance(stores.incoming, S3Store):
            direct = DirectUploads(stores.incoming, intake, uploads)
        unfinished = _open_partial(settings)
        resizer = Resizer(
            stores=stores, rows=rows, maker=maker, publisher=publisher, submitter=submitter
        )
        yield UploadServices(
            stores=stores,
            access=UploadAccess(uploads),
            intake=intake,
            publisher=publisher,
            pictures=ActivePictures(
                stores=stores,
                files=files,
                maker=maker,
                rows=rows,
                derivatives=derivatives,
                flights=flights,
                open_folder=open_folder,
            ),
            sweeper=UploadSweeper(
                stores=stores,
                rows=rows,
                publisher=publisher,
                publication=publication,
                expire_after_s=uploads.expire_after_s,
                others=[unfinished.sweep, *([direct.sweep] if direct else [])],
            ),
            formats=FormatMaker(
                stores=stores,
                files=files,
                maker=maker,
                rows=rows,
                publisher=publisher,
                formats=formats,
                open_folder=open_folder,
            ),
            maker=maker,
            files=files,
            publication=publication,
            permits=UploadPermits(uploads),
            partial=unfinished,
            direct=direct,
            resizer=resizer,
            importer=PictureImporter(
                stores=stores,
                files=files,
                maker=maker,
                rows=rows,
                intake=intake,
                publication=publication,
                publisher=publisher,
                resizer=resizer,
                open_folder=open_folder,
            ),
        )


def _open_partial(settings: Settings) -> PartialUploads:
    """The unfinished uploads of this host, in the work folder."""
    uploads = settings.uploads
    return PartialUploads(
        Path(uploads.temp_folder or settings.data_dir) / "partial-uploads",
        PartialLimits(
            quota=uploads.partial_quota,
            floor=settings.cache.free_space_floor,
            expire_after_s=uploads.expire_after_s,
            pause_timeout_s=uploads.pause_timeout_s,
            receive_timeout_s=uploads.receive_timeout_s,
        ),
    )
