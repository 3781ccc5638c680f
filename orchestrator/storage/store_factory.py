"""Opens the object store that the settings choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import assert_never

from orchestrator.settings import Storage
from orchestrator.storage.filesystem_store import FilesystemStore
from orchestrator.storage.s3_store import S3Store, open_s3


@asynccontextmanager
async def open_store(settings: Storage, data_dir: Path) -> AsyncIterator[FilesystemStore | S3Store]:
    """Open the configured object store; closes it at the end. The default folder is `objects` below
    `data_dir`.
    """
    match settings.kind:
        case "s3":
            async with open_s3(settings) as bucket:
                yield bucket
        case "filesystem":
            unset = settings.root == Path()
            folder = FilesystemStore(data_dir / "objects" if unset else settings.root)
            try:
                yield folder
            finally:
                await folder.close()
        case unknown:
            assert_never(unknown)
