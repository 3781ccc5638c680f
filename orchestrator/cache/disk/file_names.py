"""Where a product lies on disk: `{aa}/{asset hash}/{version}-{product hash}.{extension}` below the
cache's folder, `{version}-{share}-{product hash}.{extension}` for what counts in a share of it.

Names are hashes, so any asset name is safe and no path is longer than another; everything of an
asset is one folder, and its versions are told apart by the name's beginning. Nothing here touches
the disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b

TEMP_FOLDER = ".temp"
SHARE = re.compile(r"[a-z][a-z0-9_]{0,19}")
"""What a share of a quota can be called."""
_NAME = re.compile(rf"(\d{{1,18}})-(?:({SHARE.pattern})-)?([0-9a-f]{{24}})\.([a-z0-9]{{1,8}})")
_ASSET = re.compile(r"[0-9a-f]{30}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Product:
    """Something made from one asset version; equal products have equal bytes.

    `name` is the canonical form with the access class; `extension` (no dot) is the file's true one,
    which image servers go by. `share` names the part of the quota it counts in ("": none of its
    own). `pinned` says that it is not to be evicted; it is no part of what the product is.
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
    """The asset's text id, where it is known: the hash does not tell it."""

    @property
    def folder(self) -> str:
        """The folder of everything made from the asset, relative to the cache's."""
        return f"{self.asset[:2]}/{self.asset}"

    @property
    def path(self) -> str:
        """The file, relative to the cache's folder."""
        return f"{self.asset[:2]}/{self.asset}/{self.name}"


def asset_hash(asset: str) -> str:
    """The 30 hex digits that stand for an asset's text id."""
    return blake2b(asset.encode("utf-8", "surrogatepass"), digest_size=15).hexdigest()


def place(product: Product) -> Place:
    """Where `product` lies. Raises ValueError for a version, an extension or a share that cannot be
    part of a file name.
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
    """The place that a found folder and file name stand for; None for names that are not ours."""
    if _ASSET.fullmatch(asset) is None or _NAME.fullmatch(name) is None:
        return None
    return Place(asset, name)


def version_of(name: str) -> int:
    """The asset version in a file name of ours."""
    return int(name.partition("-")[0])


def share_of(name: str) -> str:
    """The share of the quota that a file name of ours counts in; "" for none."""
    parts = name.split("-", 2)
    return parts[1] if len(parts) == 3 else ""
