"""A folder of pictures registered in place: headers are read, nothing is copied, every request
can be answered.

Run again, it finds what is new or changed and leaves the rest alone. Assets whose file is gone
are reported and left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.catalog.assets import Assets
from orchestrator.errors import OriginUnavailable, Overloaded, TooLarge, Unavailable, Unprocessable
from orchestrator.ingest.folder_listing import Listing, list_pictures
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.policies import OptimisationPolicy
from orchestrator.model import Asset, AssetId

log = logging.getLogger(__name__)
PAGE = 500
AT_ONCE = 16
"""Pictures probed at a time: enough to keep every worker process busy, few enough not to fill
their queue.
"""

Progress = Callable[[int, int], None]
"""Told (done, total)."""


@dataclass(slots=True)
class FolderReport:
    """What came of registering a folder."""

    pictures: int = 0
    registered: int = 0
    unchanged: int = 0
    failed: dict[AssetId, str] = field(default_factory=dict)
    """Why a picture could not be registered; an older version of it goes on being served."""
    skipped: Counter[str] = field(default_factory=Counter)
    vanished: list[AssetId] = field(default_factory=list)
    """Assets registered from this folder before, whose files are not there now."""


class FolderIngest:
    """Registers folders for `serve FOLDER`."""

    def __init__(self, assets: Assets, pipeline: Pipeline) -> None:
        self._assets = assets
        self._pipeline = pipeline

    async def register(
        self, folder: Path, policy: OptimisationPolicy, progress: Progress | None = None
    ) -> FolderReport:
        """Register each picture below `folder` as `1/1/{name}`.

        Raises InvalidInput when it is no folder, CatalogUnavailable; a picture that cannot be
        taken in is reported.
        """
        listing = await asyncio.to_thread(list_pictures, folder)
        report = FolderReport(pictures=len(listing.pictures), skipped=listing.skipped)
        known = await self._known(listing, report)
        todo = iter(listing.pictures.items())

        async def work() -> None:
            for asset_id, path in todo:
                await self._one(known.get(asset_id), asset_id, path, policy, report)
                if progress is not None:
                    progress(
                        report.registered + report.unchanged + len(report.failed), report.pictures
                    )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, report.pictures)):
                tasks.create_task(work())
        log.info(
            "folder registered",
            extra={
                "pictures": report.pictures,
                "registered": report.registered,
                "failed": len(report.failed),
                "vanished": len(report.vanished),
            },
        )
        return report

    async def _one(
        self,
        known: Asset | None,
        asset_id: AssetId,
        path: Path,
        policy: OptimisationPolicy,
        report: FolderReport,
    ) -> None:
        try:
            registered = await self._patiently(known, asset_id, path, policy)
        except (Unprocessable, TooLarge, OriginUnavailable) as error:
            report.failed[asset_id] = error.public
            log.warning(
                "picture not registered",
                extra={"asset": str(asset_id), "path": str(path), "reason": error.public},
            )
            return
        except Unavailable:
            raise  # nothing is wrong with the picture: the whole is tried again
        except Exception:  # one picture that breaks our code must not keep the others from readers
            report.failed[asset_id] = "The picture could not be registered."
            log.exception("registration broke down", extra={"asset": str(asset_id)})
            return
        if registered:
            report.registered += 1
        else:
            report.unchanged += 1

    async def _patiently(
        self, known: Asset | None, asset_id: AssetId, path: Path, policy: OptimisationPolicy
    ) -> bool:
        while True:
            try:
                return await self._pipeline.register_in_place(asset_id, path, policy, known)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)

    async def _known(self, listing: Listing, report: FolderReport) -> dict[AssetId, Asset]:
        """Read the assets there are for these pictures; note those of this folder that have no
        picture now.
        """
        root = f"{listing.root}/"
        found: dict[AssetId, Asset] = {}
        after: AssetId | None = None
        while page := await self._assets.page(after, PAGE, customer=1, space=1):
            for asset in page:
                if asset.id in listing.pictures:
                    found[asset.id] = asset
                elif asset.origin.startswith(root):
                    report.vanished.append(asset.id)
            after = page[-1].id
        return found
