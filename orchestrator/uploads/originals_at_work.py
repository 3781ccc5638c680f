"""The local file of an original while its picture is changed: fetched when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.catalog.uploads import Upload
from orchestrator.imaging.recipes import Probe
from orchestrator.storage.picture_store import PictureStore
from orchestrator.uploads.picture_files import PictureFiles
from orchestrator.uploads.version_maker import VersionMaker


@dataclass(slots=True)
class WorkingOriginal:
    """The original of an upload in `store`, in a work folder."""

    files: PictureFiles
    maker: VersionMaker
    store: PictureStore
    folder: Path
    _path: Path | None = field(default=None)
    _probe: Probe | None = field(default=None)

    def use(self, path: Path) -> None:
        """Use this file instead of the object in the store."""
        self._path, self._probe = path, None

    async def path(self, upload: Upload) -> Path:
        """The file. Raises ObjectNotFound, StorageUnavailable."""
        if self._path is None:
            path = self.folder / "original"
            await self.files.fetch_original(self.store, upload, path)
            self._path = path
        return self._path

    async def probe(self, upload: Upload) -> Probe:
        """What the picture is. Raises as `path`, Unprocessable, TooLarge, Overloaded."""
        if self._probe is None:
            self._probe = await self.maker.probe(await self.path(upload))
        return self._probe
