"""The path of a product's file: `{aa}/{asset hash}/{version}-{product hash}.{extension}` below the
cache's folder, `{version}-{share}-{product hash}.{extension}` for products of a share.

Names are hashes, so any asset name is safe and all paths have the same length. The files of an
asset are in one folder; their names begin with the version. Nothing here accesses the disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b

TEMP_FOLDER = ".temp"
SHARE = re.compile(r"[a-z][a-z0-9_]{0,19}")
"""The names that a share of the quota can have."""
_NAME = re.compile(rf"(\d{{1,18}})-(?:({SHARE.pattern})-)?([0-9a-f]{{24}})\.([a-z0-9]{{1,8}})")
_ASSET = re.compile(r"[0-9a-f]{30}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Product:
    """Something made from one asset version; equal products have equal bytes.

    `name` is the canonical form with the access class. `extension` (no dot) is the true one of the
    file, because image servers choose the decoder by it. `share` names the part of the quota that
    the file counts in ("": no share). `pinned` protects the file from eviction; it is not part of
    the product's identity.
    """

    asset: str
    version: int
    name: str
    extension: str
    share: str = ""
    pinned: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A product's place below the cache's folder; (`asset`, `name`) identifies it in the index."""

    asset: str
    name: str
    text: str = field(default="", compare=False)
    """The asset's text id, if known; it cannot be computed from the hash."""

    @property
    def folder(self) -> str:
        """The folder of the asset's files, relative to the cache's folder."""
        return f"{self.asset[:2]}/{self.asset}"

    @property
    def path(self) -> str:
        """The file, relative to the cache's folder."""
        return f"{self.asset[:2]}/{self.asset}/{self.name}"


def asset_hash(asset: str) -> str:
    """The 30 hex digits that stand for an asset's text id."""
    return blake2b(asset.encode("utf-8", "surrogatepass"), digest_size=15).hexdigest()


def place(product: Product) -> Place:
    """The place of `product`. Raises ValueError for a version, an extension or a share that cannot
    be part of a file name.
    """
    if product.version < 0 or _EXTENSION.fullmatch(product.extension) is None:
        raise ValueError("a product needs a version of 0 or more and a plain lower-case extension")
    if product.share and SHARE.fullmatch(product.share) is None:
        raise ValueError("a share's name is lower-case letters, digits and underscores")
    digest = blake2b(product.name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    share = f"{product.share}-" if product.share else ""
    name = f"{product.version}-{share}{digest}.{product.extension}"
    return Place(asset_hash(product.asset), name, product.asset)


def parse(asset: str, name: str) -> Place | None:
    """The place with these names of folder and file; None if they are not names of this module."""
    if _ASSET.fullmatch(asset) is None or _NAME.fullmatch(name) is None:
        return None
    return Place(asset, name)


def place_of_path(path: str) -> Place:
    """The place of a path relative to the cache's folder, as `Place.path` gives it."""
    _, asset, name = path.split("/")
    return Place(asset, name)


def version_of(name: str) -> int:
    """The asset version in a file name."""
    return int(name.partition("-")[0])


def share_of(name: str) -> str:
    """The share of the quota in a file name; "" if there is none."""
    parts = name.split("-", 2)
    return parts[1] if len(parts) == 3 else ""
