"""The two stores of uploads: `incoming` (not published) and `active` (published), each a folder or
a bucket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.settings import Storage, Uploads
from orchestrator.storage.picture_folder import PictureFolder
from orchestrator.storage.picture_store import PictureStore
from orchestrator.storage.s3_store import open_s3

Stage = Literal["incoming", "active"]


@dataclass(frozen=True, slots=True)
class UploadStores:
    """The stores, and the Cache-Control of the objects in `active`."""

    incoming: PictureStore
    active: PictureStore
    cache_control: str


@asynccontextmanager
async def open_stores(settings: Uploads, limits: Storage) -> AsyncIterator[UploadStores]:
    """Open the stores of the settings; `limits` has the time limits of connections."""
    async with AsyncExitStack() as stack:
        yield UploadStores(
            await _open_stage(stack, "incoming", settings, limits),
            await _open_stage(stack, "active", settings, limits),
            settings.cache_control,
        )


def location_of(settings: Uploads, stage: Stage, key: str) -> str:
    """The address of an object of this stage: `file:///folder/key` or `s3://region/bucket/key`."""
    if settings.backend == "local":
        return Path(getattr(settings, f"{stage}_folder"), key).as_uri()
    region, bucket = (getattr(settings, f"{stage}_{name}") for name in ("region", "bucket"))
    return f"s3://{region}/{bucket}/{key}"


async def _open_stage(
    stack: AsyncExitStack, stage: Stage, settings: Uploads, limits: Storage
) -> PictureStore:
    if settings.backend == "local":
        return PictureFolder(Path(getattr(settings, f"{stage}_folder")))
    names = ("bucket", "endpoint", "region", "access_key", "secret_key")
    changes = {name: getattr(settings, f"{stage}_{name}") for name in names}
    changes |= {
        "kind": "s3",
        "prefix": "",
        "signature_version": settings.signature_version or "s3v4",
    }
    return await stack.enter_async_context(open_s3(limits.model_copy(update=changes)))
