"""The keys of pyramids, and the assets that serve them. Pure.

The pyramid of `{path}{stem}.jpg` is `{path}{stem}.tif`. If another source has that key, it is
`{path}{stem}.jpg.tif`, and if that is taken, too, a key with a digest of the source. The pages of a
document are `{path}{stem}_0001.tif` and so on, unless it has only one.
"""

from __future__ import annotations

import hashlib

from orchestrator.catalog.pyramid_values import SourceObject
from orchestrator.errors import InvalidImageRequest
from orchestrator.ingest.pyramid_maker import pyramid_name
from orchestrator.model import AssetId
from orchestrator.settings import Pyramids

_EXTENSION = ".tif"


def bases_of(prefix: str, source: SourceObject) -> tuple[str, ...]:
    """The begins of keys to choose from, best first. The last one is of this source alone."""
    directory, slash, name = source.key.rpartition("/")
    stem = name.rpartition(".")[0] or name
    digest = hashlib.blake2b(f"{source.bucket}\0{source.key}".encode(), digest_size=8).hexdigest()
    path = prefix + directory + slash
    names = dict.fromkeys((stem, name, f"{name}.{digest}"))
    return tuple(path + each for each in names)


def targets_of(base: str, pages: int) -> tuple[str, ...]:
    """The keys of the pyramids of a source with this many pages."""
    numbers = range(1, pages + 1) if pages > 1 else (0,)
    return tuple(pyramid_name(base, number) for number in numbers)


def asset_of(settings: Pyramids, target: str) -> AssetId:
    """The asset that serves a pyramid. A key that cannot be the name of an asset, because it is too
    long or has an empty segment, is replaced by its digest.
    """
    name = target.removesuffix(_EXTENSION)
    try:
        return AssetId(settings.customer, settings.space, name)
    except InvalidImageRequest:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return AssetId(settings.customer, settings.space, digest)
