"""Registers the served folder, and says in what state it is.

A folder that cannot be read (its disk is not mounted) is a state and not a failure of the process:
it is logged, `/health/ready` of the private port shows it, and it is looked for until it is back.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from orchestrator import metrics
from orchestrator.app import Services
from orchestrator.errors import InvalidInput
from orchestrator.fault_log import FaultLog
from orchestrator.imaging.workers.file_access import record_folder
from orchestrator.ingest.folder import FolderRegistrar
from orchestrator.progress import READING_HEADERS, ProgressFile, registered_marker

log = logging.getLogger(__name__)
_LOOK_AGAIN_S = 5.0


class ServedFolder:
    """The folder of `serve FOLDER`, in the housekeeping process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._folder = services.settings.ingest.folder
        self._marker = registered_marker(services.settings.data_dir)
        self._faults = FaultLog(log, "folder not readable", "folder readable again")
        self._fault = "The folder is being read." if self._folder else ""
        self._registered: tuple[int, int] | None = None
        """The folder that was registered last, by device and inode."""

    async def state(self) -> str:
        """Return what is wrong with the folder in a sentence, "" if nothing."""
        return self._fault

    async def run(self) -> None:
        """Register the folder and submit the conversions that wait; again when it was not readable,
        or when another one is mounted in its place. Raises CatalogUnavailable.
        """
        while True:
            identity = await asyncio.to_thread(_identity, self._folder)
            if identity is None or identity != self._registered:
                await self._register(identity)
            await asyncio.to_thread(_touch, self._marker)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _register(self, identity: tuple[int, int] | None) -> None:
        services, folder = self._services, self._folder
        if folder:
            registrar = FolderRegistrar(
                services.catalog.assets, services.pipeline.registrar, services.pipeline.policies
            )
            await asyncio.to_thread(record_folder, services.settings.data_dir, folder)
            progress = ProgressFile(services.settings.data_dir, READING_HEADERS)
            try:
                await registrar.register(Path(folder), progress)
            except InvalidInput as error:
                self._on_unreadable(error.public)
                return
            self._fault = ""
            self._faults.clear(folder=folder)
            metrics.FOLDER_UNREADABLE.set(0)
        await services.pipeline.conversion_jobs.submit_missing()
        self._registered = identity

    def _on_unreadable(self, reason: str) -> None:
        self._fault, self._registered = reason, None
        self._faults.report(folder=self._folder, reason=reason)
        metrics.FOLDER_UNREADABLE.set(1)


def _identity(folder: str) -> tuple[int, int] | None:
    """The folder that has this path now; None if it cannot be read."""
    if not folder:
        return (0, 0)
    try:
        status = Path(folder).stat()
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _touch(path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
