"""The stores of originals and results: the configured bucket or folder, and the buckets that
clients may choose with headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from orchestrator.errors import Forbidden, ObjectNotFound
from orchestrator.settings import Ico, IcoBucket, Storage
from orchestrator.storage.picture_folder import PictureFolder
from orchestrator.storage.picture_store import PictureStore
from orchestrator.storage.s3_store import open_s3

REGION_HEADER, BUCKET_HEADER = "X-S3-Region", "X-S3-Bucket"


class Stores:
    """The stores by their names: `region/bucket`, or `folder`."""

    def __init__(
        self, configured: str, chosen: frozenset[str], stores: Mapping[str, PictureStore]
    ) -> None:
        """`configured` is the name of the store without headers, "" if there is none; `chosen` are
        the names that headers may choose.
        """
        self._configured = configured
        self._chosen = chosen
        self._stores = stores

    @property
    def depends_on_headers(self) -> bool:
        """True if headers can choose another store."""
        return bool(self._chosen)

    def choose(self, region: str, bucket: str) -> str:
        """The name of the store for a request with these headers. Raises Forbidden for a pair that
        is not allowed, ObjectNotFound if there is no store without headers.
        """
        if region or bucket:
            name = store_name(region, bucket)
            if name not in self._chosen:
                raise Forbidden(f"{REGION_HEADER} and {BUCKET_HEADER} must name an allowed pair.")
            return name
        if not self._configured:
            raise ObjectNotFound("There is no such picture. Check the path.")
        return self._configured

    def get(self, name: str) -> PictureStore:
        """The store of this name. Raises ObjectNotFound for one that is no longer configured."""
        if name not in self._stores:
            raise ObjectNotFound(f"The store {name} is not configured.")
        return self._stores[name]


def store_name(region: str, bucket: str) -> str:
    """The name of a bucket."""
    return f"{region}/{bucket}"


@asynccontextmanager
async def open_stores(settings: Ico, limits: Storage) -> AsyncIterator[Stores]:
    """Open the stores of the settings; `limits` has the time limits of connections."""
    async with AsyncExitStack() as stack:
        stores: dict[str, PictureStore] = {}
        configured = ""
        if settings.folder:
            configured = "folder"
            stores[configured] = PictureFolder(Path(settings.folder))
        elif settings.bucket:
            own = IcoBucket.model_validate(
                {
                    name: getattr(settings, name)
                    for name in ("region", "bucket", "endpoint", "access_key", "secret_key")
                }
            )
            configured = store_name(own.region, own.bucket)
            stores[configured] = await _open_bucket(stack, own, limits)
        for each in settings.buckets:
            name = store_name(each.region, each.bucket)
            stores[name] = await _open_bucket(stack, each, limits)
        chosen = frozenset(store_name(each.region, each.bucket) for each in settings.buckets)
        yield Stores(configured, chosen, stores)


async def _open_bucket(stack: AsyncExitStack, bucket: IcoBucket, limits: Storage) -> PictureStore:
    changes = bucket.model_dump() | {"kind": "s3", "prefix": ""}
    return await stack.enter_async_context(open_s3(limits.model_copy(update=changes)))
