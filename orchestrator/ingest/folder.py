"""Registers the pictures of a folder in place: headers are read, nothing is copied, and every
request can be answered.

A second registration finds new and changed files and leaves the others as they are. Assets whose
file no longer exists are reported and not deleted.
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
from orchestrator.ingest.policies import Policies
from orchestrator.ingest.prepare import Recipes
from orchestrator.ingest.register import Registrar
from orchestrator.model import Asset, AssetId

log = logging.getLogger(__name__)
_CUSTOMER, _SPACE = 1, 1
_PAGE = 500
_FILES_AT_ONCE = 16
"""Enough files to keep every imaging process busy, few enough not to fill their queue."""

Progress = Callable[[int, int], None]
"""Called with the number of files done and the number of all files."""


@dataclass(slots=True)
class FolderReport:
    """The result of registering a folder."""

    pictures: int = 0
    registered: int = 0
    unchanged: int = 0
    failed: dict[AssetId, str] = field(default_factory=dict)
    """Why a file could not be registered; an older version of the asset is still served."""
    skipped: Counter[str] = field(default_factory=Counter)
    vanished: list[AssetId] = field(default_factory=list)
    """Assets of this folder whose file no longer exists."""


class FolderRegistrar:
    """Registers the folder of `serve FOLDER`."""

    def __init__(self, assets: Assets, registrar: Registrar, policies: Policies) -> None:
        self._assets = assets
        self._registrar = registrar
        self._policies = policies

    async def register(self, folder: Path, progress: Progress | None = None) -> FolderReport:
        """Register each picture below `folder` as `1/1/{name}`. The caller submits the conversion
        jobs.

        Raises InvalidInput if it is not a folder or its policy does not exist, CatalogUnavailable.
        A file that cannot be registered is reported.
        """
        recipes = Recipes(
            await self._policies.folder(_CUSTOMER), await self._policies.thumbnails(_CUSTOMER, "")
        )
        listing = await asyncio.to_thread(list_pictures, folder, _CUSTOMER, _SPACE)
        report = FolderReport(pictures=len(listing.pictures), skipped=listing.skipped)
        known = await self._read_known(listing, report)
        files = iter(listing.pictures.items())

        async def register_files() -> None:
            for asset_id, path in files:
                await self._register_file(known.get(asset_id), asset_id, path, recipes, report)
                if progress is not None:
                    done = report.registered + report.unchanged + len(report.failed)
                    progress(done, report.pictures)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(_FILES_AT_ONCE, report.pictures)):
                tasks.create_task(register_files())
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

    async def _register_file(
        self,
        known: Asset | None,
        asset_id: AssetId,
        path: Path,
        recipes: Recipes,
        report: FolderReport,
    ) -> None:
        fields = {"asset": str(asset_id), "path": str(path)}
        try:
            is_changed = await self._register_when_free(known, asset_id, path, recipes)
        except (Unprocessable, TooLarge, OriginUnavailable) as error:
            report.failed[asset_id] = error.public
            extra = {**fields, "reason": error.public, "code": error.code}
            log.warning("picture not registered", extra=extra)
            return
        except Unavailable:
            raise  # not the picture's fault: the caller registers the folder again
        except Exception:  # one picture that triggers a bug must not keep the others from readers
            report.failed[asset_id] = "The picture could not be registered. See the log."
            log.exception("picture failed unexpectedly", extra=fields)
            return
        if is_changed:
            report.registered += 1
        else:
            report.unchanged += 1

    async def _register_when_free(
        self, known: Asset | None, asset_id: AssetId, path: Path, recipes: Recipes
    ) -> bool:
        """Register the file; wait while the imaging pool is full. Returns whether it changed."""
        while True:
            try:
                return (await self._registrar.register_file(asset_id, path, recipes, known)).changed
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)

    async def _read_known(self, listing: Listing, report: FolderReport) -> dict[AssetId, Asset]:
        """Return the existing assets of these pictures; report the assets of this folder that have
        no picture now.
        """
        root = f"{listing.root}/"
        known: dict[AssetId, Asset] = {}
        after: AssetId | None = None
        while page := await self._assets.page(after, _PAGE, customer=_CUSTOMER, space=_SPACE):
            for asset in page:
                if asset.id in listing.pictures:
                    known[asset.id] = asset
                elif asset.origin.startswith(root):
                    report.vanished.append(asset.id)
            after = page[-1].id
        return known
