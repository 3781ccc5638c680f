"""Compares what is recorded of uploaded pictures with what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.catalog.uploads import Upload, Uploads
from orchestrator.errors import InvalidInput
from orchestrator.storage.picture_store import PictureStore
from orchestrator.uploads.picture_keys import PictureKey
from orchestrator.uploads.upload_stores import UploadStores
from orchestrator.uploads.version_maker import VersionMaker

_PAGE = 500


@dataclass(slots=True)
class Stock:
    """What was found. All but `published` and `incoming`, which are numbers, are keys."""

    published: int = 0
    incoming: int = 0
    missing_originals: list[str] = field(default_factory=list)
    missing_versions: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    """Originals whose versions were made by other rules."""
    unrecorded: list[str] = field(default_factory=list)
    """Published originals of another program: publish or resize records them."""
    orphans: list[str] = field(default_factory=list)
    """Objects that belong to no original."""

    @property
    def is_sound(self) -> bool:
        """True if nothing is missing and nothing is left over."""
        return not (
            self.missing_originals or self.missing_versions or self.orphans or self.unrecorded
        )


async def check_stock(stores: UploadStores, rows: Uploads, maker: VersionMaker) -> Stock:
    """Compare rows and objects. Raises CatalogUnavailable, StorageUnavailable."""
    stock = Stock()
    active, stock.orphans = await _stored(stores.active)
    incoming, others = await _stored(stores.incoming)
    stock.incoming = sum(not key.version for key in incoming)
    stock.orphans += [key for key in others if "/" not in key]
    recorded: set[str] = set()
    after = ""
    while page := await rows.page(after, _PAGE):
        for upload in page:
            recorded.add(upload.name)
            _compare(upload, active, maker, stock)
        after = page[-1].name
    stock.published = len(recorded)
    names = {key.name for key in active if not key.version}
    stock.unrecorded = sorted(
        str(key) for key in active if not key.version and key.name not in recorded
    )
    stock.orphans += sorted(
        str(key) for key in active if key.version and key.name not in names | recorded
    )
    return stock


def _compare(upload: Upload, active: set[PictureKey], maker: VersionMaker, stock: Stock) -> None:
    key = PictureKey.parse(upload.key)
    if key not in active:
        stock.missing_originals.append(upload.key)
    versions = [key.of_version(name) for name in maker.names]
    stock.missing_versions += [str(each) for each in versions if each not in active]
    if upload.made_with != maker.made_with(upload.crop):
        stock.outdated.append(upload.key)


async def _stored(store: PictureStore) -> tuple[set[PictureKey], list[str]]:
    """(the keys of pictures, the other keys) of a store."""
    keys, others = set(), []
    async for info in store.list(""):
        try:
            keys.add(PictureKey.parse(info.key))
        except InvalidInput:
            others.append(info.key)
    return keys, others
