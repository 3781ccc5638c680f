"""Pyramid TIFFs of local files, without the database and the queue. A pyramid appears under its
name when it is complete and checked; a failed conversion leaves nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import aiofiles

from orchestrator.cleanup import clean_up
from orchestrator.errors import InvalidInput, NoRoom, NotFound
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.folder_listing import list_pictures, split_extension
from orchestrator.ingest.pyramid_maker import Pyramid, make_pyramids, pyramid_name
from orchestrator.ingest.pyramid_policies import PyramidPolicy
from orchestrator.storage.store import ObjectStore

EXTENSION = ".tif"
_FLOOR_BYTES = 64 * 1024**2
"""Bytes of the disk that stay free."""


@dataclass(frozen=True, slots=True)
class FilePair:
    """An original and the file of its pyramid."""

    original: Path
    target: Path


def list_pairs(source: Path, target: Path, *, is_folder: bool = False) -> list[FilePair]:
    """What to convert: the file `source`, or every picture in that folder and its subfolders
    (blocking). `is_folder`: `target` is a folder, also if it does not exist yet. Pictures of a
    folder keep their subfolder, and their extension where two names would be equal.

    Raises NotFound, InvalidInput.
    """
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise InvalidInput(f"{source} is a folder, and {target} is not. Name a folder.")
        pictures = list_pictures(source).pictures
        pairs = [
            FilePair(path, target / f"{asset.name}{EXTENSION}") for asset, path in pictures.items()
        ]
        if not pairs:
            raise InvalidInput(f"There is no picture in {source}.")
        return pairs
    if not source.is_file():
        raise NotFound(f"There is no file {source}.")
    if is_folder or target.is_dir():
        target = target / f"{split_extension(source.name)[0]}{EXTENSION}"
    if target.exists() and target.samefile(source):
        raise InvalidInput("OUT is the file of the original. Name another file.")
    return [FilePair(source, target)]


async def convert_file(
    imaging: ImagingPool, pair: FilePair, policy: PyramidPolicy, *, is_copyrighted: bool = False
) -> list[Pyramid]:
    """Write the pyramids of one original to their names: `target`, or for the pages of a PDF
    `{stem}_0001.tif` and so on. Existing files are replaced. Raises as `make_pyramids`.
    """
    folder = pair.target.parent
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    scratch = await asyncio.to_thread(tempfile.mkdtemp, prefix=".pyramid-", dir=folder)

    async def check_room(needed: int) -> None:
        usage = await asyncio.to_thread(shutil.disk_usage, scratch)
        if usage.free - needed < _FLOOR_BYTES:
            raise NoRoom(f"There is not enough free disk space in {folder}. Free disk space.")

    try:
        made = await make_pyramids(
            imaging,
            pair.original,
            policy,
            Path(scratch),
            is_copyrighted=is_copyrighted,
            check_room=check_room,
        )
        return await asyncio.to_thread(_move, made, pair.target)
    finally:
        await clean_up(shutil.rmtree, scratch, ignore_errors=True)


async def fetch_pyramid(images: ObjectStore, key: str, target: Path) -> None:
    """Write an object of the image bucket to `target`. Raises ObjectNotFound,
    StorageUnavailable.
    """
    async with images.open(key) as stream, aiofiles.open(target, "wb") as file:
        async for chunk in stream:
            await file.write(chunk)


def _move(made: list[Pyramid], target: Path) -> list[Pyramid]:
    stem = split_extension(target.name)[0]
    moved = []
    for pyramid in made:
        path = target.with_name(pyramid_name(stem, pyramid.page)) if pyramid.page else target
        pyramid.path.replace(path)
        moved.append(replace(pyramid, path=path))
    return moved
