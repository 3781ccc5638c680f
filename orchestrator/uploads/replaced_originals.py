"""Where the migration reads originals: a web server, a folder or a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from orchestrator.errors import InvalidInput
from orchestrator.origins.download import receive
from orchestrator.origins.http_reader import HttpReader
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.reader_types import NotModified, OriginAccess
from orchestrator.settings import Ingest, Settings
from orchestrator.storage.picture_folder import PictureFolder
from orchestrator.storage.picture_store import PictureStore
from orchestrator.storage.s3_store import open_s3


class Originals(Protocol):
    """The originals of the replaced system."""

    async def fetch(self, name: str, target: Path) -> None:
        """Copy an original to a file. Raises NotFound, OriginUnavailable, TooLarge, NotAnImage,
        StorageUnavailable.
        """
        ...

    def names(self) -> AsyncIterator[str]:
        """Every name. Raises InvalidInput where they cannot be listed."""
        ...


class _WebOriginals:
    def __init__(self, reader: HttpReader, address: str, max_bytes: int) -> None:
        self._reader = reader
        self._address = address
        self._max_bytes = max_bytes

    async def fetch(self, name: str, target: Path) -> None:
        address = f"{self._address.rstrip('/')}/{quote(name)}"
        async with self._reader.open(address, OriginAccess(OriginKind.DEFAULT)) as stream:
            assert not isinstance(stream, NotModified)  # noqa: S101  no ETag was sent
            await receive(stream.chunks, target, max_bytes=self._max_bytes, expected=stream.bytes)

    async def names(self) -> AsyncIterator[str]:
        raise InvalidInput("The files of a web server cannot be listed. Use V5_DATABASE_URL.")
        yield  # an iterator, as those of other places


class _StoredOriginals:
    def __init__(self, store: PictureStore, prefix: str, max_bytes: int) -> None:
        self._store = store
        self._prefix = prefix
        self._max_bytes = max_bytes

    async def fetch(self, name: str, target: Path) -> None:
        async with self._store.open(self._prefix + name) as stream:
            await receive(stream, target, max_bytes=self._max_bytes, expected=stream.info.bytes)

    async def names(self) -> AsyncIterator[str]:
        async for info in self._store.list(self._prefix):
            name = info.key.removeprefix(self._prefix)
            if "/" not in name:
                yield name


@asynccontextmanager
async def open_originals(place: str, settings: Settings) -> AsyncIterator[Originals]:
    """Open the place: a folder, `s3://bucket/prefix` or the address of a web folder.

    A bucket is read with the connection of the bucket of `active`. The network rules of origins do
    not apply: an operator names the place. Raises InvalidInput.
    """
    max_bytes = settings.uploads.max_bytes
    scheme = urlsplit(place).scheme
    async with AsyncExitStack() as stack:
        if scheme in ("http", "https"):
            reader = await stack.enter_async_context(_open_reader(settings.ingest))
            yield _WebOriginals(reader, place, max_bytes)
        elif scheme == "s3":
            parts = urlsplit(place)
            store = await stack.enter_async_context(_open_bucket(parts.netloc, settings))
            prefix = parts.path.strip("/")
            yield _StoredOriginals(store, f"{prefix}/" if prefix else "", max_bytes)
        elif await asyncio.to_thread(Path(place).is_dir):
            yield _StoredOriginals(PictureFolder(Path(place)), "", max_bytes)
        else:
            raise InvalidInput(f"{place} is no folder. Name a folder, s3://bucket or http://...")


def _open_reader(settings: Ingest) -> HttpReader:
    return HttpReader(settings, lambda _: True)


@asynccontextmanager
async def _open_bucket(bucket: str, settings: Settings) -> AsyncIterator[PictureStore]:
    uploads = settings.uploads
    names = ("endpoint", "region", "access_key", "secret_key")
    changes = {name: getattr(uploads, f"active_{name}") for name in names}
    changes |= {"kind": "s3", "bucket": bucket, "prefix": ""}
    async with open_s3(settings.storage.model_copy(update=changes)) as store:
        yield store
