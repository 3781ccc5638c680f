"""Stores, copies and deletes the objects of one picture: its original and its versions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.catalog.uploads import Upload
from orchestrator.errors import ObjectNotFound, StorageUnavailable
from orchestrator.storage.picture_store import PictureStore
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.version_maker import VersionMaker

SHA256, WIDTH, HEIGHT, MADE_WITH = "sha256", "width", "height", "made-with"
"""The names of the metadata of objects."""
BACKGROUND_FORMATS = ("webp", "avif")
"""The further formats that versions can have."""


class PictureFiles:
    """The objects of pictures. Every method raises StorageUnavailable."""

    def __init__(self, maker: VersionMaker) -> None:
        self._maker = maker

    async def store(
        self,
        store: PictureStore,
        upload: Upload,
        path: Path,
        versions: Mapping[PictureKey, bytes],
        *,
        cache_control: str,
    ) -> None:
        """Store the versions, and then the original: where it is, everything is."""
        made_with = self._maker.made_with(None)
        await self.store_versions(store, versions, made_with, cache_control=cache_control)
        await self.store_original(store, upload, path, cache_control=cache_control)

    async def store_versions(
        self,
        store: PictureStore,
        versions: Mapping[PictureKey, bytes],
        made_with: str,
        *,
        cache_control: str,
    ) -> None:
        """Store versions; `made_with` identifies what they were made with."""
        for key, body in versions.items():
            await store.put(
                str(key),
                body,
                media_type=key.media_type,
                metadata={MADE_WITH: made_with},
                cache_control=cache_control,
            )

    async def store_original(
        self, store: PictureStore, upload: Upload, path: Path, *, cache_control: str
    ) -> None:
        """Store the original of an upload from its file."""
        key = PictureKey.parse(upload.key)
        await store.put(
            upload.key,
            path,
            media_type=key.media_type,
            metadata={
                SHA256: upload.sha256,
                WIDTH: str(upload.width),
                HEIGHT: str(upload.height),
            },
            cache_control=cache_control,
        )

    async def fetch(self, store: PictureStore, key: str, path: Path) -> str:
        """Copy an object to a file; returns its SHA-256. Raises ObjectNotFound."""
        digest = hashlib.sha256()
        file = await asyncio.to_thread(path.open, "wb")
        try:
            async with store.open(key) as stream:
                async for chunk in stream:
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)
        return digest.hexdigest()

    async def fetch_original(self, store: PictureStore, upload: Upload, path: Path) -> None:
        """Copy the original of an upload to a file. Raises ObjectNotFound, and StorageUnavailable
        if the store sends other bytes than were uploaded.
        """
        if await self.fetch(store, upload.key, path) != upload.sha256:
            raise StorageUnavailable("The store has other bytes than were uploaded.")

    async def read_versions(
        self, store: PictureStore, upload: Upload
    ) -> dict[PictureKey, bytes] | None:
        """The versions of the whole picture that the store has; None if one is missing or was made
        by other rules.
        """
        made_with = self._maker.made_with(None)
        key = PictureKey.parse(upload.key)
        found = {}
        for name in self._maker.names:
            version = key.of_version(name)
            try:
                async with store.open(str(version)) as stream:
                    if stream.info.metadata.get(MADE_WITH) != made_with:
                        return None
                    found[version] = await stream.read()
            except ObjectNotFound:
                return None
        return found

    async def delete(self, store: PictureStore, upload: Upload) -> None:
        """Delete all objects of an upload."""
        await self.delete_keys(store, PictureKey.parse(upload.key), upload.versions)

    async def delete_keys(
        self, store: PictureStore, key: PictureKey, versions: Iterable[str] = ()
    ) -> None:
        """Delete an original, and its versions: those that are made now, and `versions`."""
        await store.delete(keys_of(key, {*self._maker.names, *versions}))


def keys_of(key: PictureKey, versions: Iterable[str]) -> list[str]:
    """The keys of all objects that a picture can have in a store, the original last."""
    keys = []
    for name in sorted(versions):
        keys.append(str(key.of_version(name)))
        keys += [str(key.of_version(name, extension)) for extension in BACKGROUND_FORMATS]
    return [*keys, str(key)]
