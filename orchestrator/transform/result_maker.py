"""Makes results: from the disk cache, from the stored result beside the original, or from the
original. Concurrent requests for the same result share one run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cachetools import LRUCache

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import SourceChanged
from orchestrator.transform.parameters import NamedFormat, Parameters
from orchestrator.transform.picture_shaper import PictureShaper, Result, media_type_of
from orchestrator.transform.shapes import Original, Picture, plan_shape

_PICTURES_KEPT = 20_000
_ORIGINAL = "original"
_EXTENSION = "img"
"""Results are read by this product alone, so the names of their files need no true extension."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One version of a picture that is shaped.

    `asset` and `version` are those under which the disk cache keeps its results; `name` tells
    versions apart that have the same number. `lease` opens a file with its bytes.
    """

    asset: str
    version: int
    name: str
    share: str
    lease: Callable[[], AbstractAsyncContextManager[Path]]

    def product(self, name: str) -> Product:
        """A result of this picture in the disk cache."""
        return Product(self.asset, self.version, f"ico {self.name} {name}", _EXTENSION, self.share)


class StoredCopy(Protocol):
    """The copy of a result beside its original."""

    async def read(self) -> bytes | None:
        """The stored bytes; None if there are none of this version."""
        ...

    async def record(self) -> None:
        """Record that the result must be stored."""
        ...


class ResultMaker:
    """Makes the results of one process."""

    def __init__(
        self, derivatives: DiskCache, flights: SingleFlight, shaper: PictureShaper
    ) -> None:
        self._derivatives = derivatives
        self._flights = flights
        self._shaper = shaper
        self._pictures: LRUCache[tuple[str, int, str], Picture] = LRUCache(_PICTURES_KEPT)

    async def get(
        self,
        subject: Subject,
        parameters: Parameters,
        *,
        accepted: NamedFormat = "",
        stored: StoredCopy | None = None,
    ) -> Result:
        """The result. `accepted` is the format of a shape if the parameters name none.

        Raises Unprocessable, TooLarge, Overloaded, NoRoom, SourceChanged, StorageUnavailable.
        """
        product = subject.product(f"{parameters.canonical} {accepted}")
        if self._is_original(subject, parameters):
            product = subject.product(_ORIGINAL)

        async def find() -> Result | None:
            return await self._find(product, is_original=product == subject.product(_ORIGINAL))

        async def publish(result: Result) -> None:
            if result.is_original:
                # One product for all parameters that give the original: it is not kept several
                # times.
                await self._put(subject.product(_ORIGINAL), result.body)
                return
            if stored is not None and result.tier != "stored":
                # Recorded before it can be found in the cache: after a kill it is either found and
                # recorded, or made again.
                await stored.record()
            await self._put(product, result.body)

        result = await find()
        if result is None:
            result = await self._flights.run(
                f"{product.asset} {product.version} {product.name}",
                lambda: self._find_stored_or_make(subject, parameters, accepted, stored),
                find=find,
                publish=publish,
            )
        original = subject.product(_ORIGINAL)
        return replace(result, product=original if result.is_original else product)

    def _is_original(self, subject: Subject, parameters: Parameters) -> bool:
        """True if the result is known to be the original."""
        picture = self._pictures.get((subject.asset, subject.version, subject.name))
        return picture is not None and isinstance(plan_shape(parameters, picture), Original)

    async def _find(self, product: Product, *, is_original: bool) -> Result | None:
        body = await self._derivatives.get(product)
        metrics.TIER_LOOKUPS.labels(tier="disk", outcome="miss" if body is None else "hit").inc()
        if body is None:
            return None
        return Result(body, media_type_of(body), "disk", is_original)

    async def _find_stored_or_make(
        self,
        subject: Subject,
        parameters: Parameters,
        accepted: NamedFormat,
        stored: StoredCopy | None,
    ) -> Result:
        copy = None if stored is None else await stored.read()
        if copy is not None:
            return Result(copy, media_type_of(copy), "stored")
        try:
            async with subject.lease() as path:
                picture, result = await self._shaper.shape(path, parameters, accepted)
        except FileNotFoundError as error:
            raise SourceChanged("The picture is being replaced. Try again.") from error
        self._pictures[subject.asset, subject.version, subject.name] = picture
        return result

    async def _put(self, product: Product, body: bytes) -> None:
        if not await self._derivatives.put(product, body):
            metrics.UNCACHED.labels(cache="derivatives").inc()
