"""Named policies: how an original is made tile-ready, and which thumbnails are made ahead.

A customer's own policy wins over a global one, that over a built-in one of the same name. A name
that is not known is refused with the names that are, never replaced by another. Policies may be
named by the last segment of an address, as the Engine's requests do
(`https://host/imageOptimisationPolicies/fastest`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.catalog.stored_policies import EVERYONE, PolicyKind, StoredPolicies
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.iiif.thumbnail_sizes import sizes_by_edge
from orchestrator.imaging import POLICIES, ConversionPolicy
from orchestrator.imaging.recipes import MAX_SIDE
from orchestrator.ingest.policy_definitions import check_name, check_sizes, conversion_of, sizes_of
from orchestrator.model import Dimensions, SourceKind
from orchestrator.settings import Ingest

DEFAULT = "default"
USE_ORIGINAL = "use-original"
CACHE_S = 5.0
"""How long a changed policy may not yet be seen by another process."""
_MOST_CUSTOMERS = 1000


@dataclass(frozen=True, slots=True)
class OptimisationPolicy:
    """How the tile-ready source is made; without `conversion` the original is the source."""

    name: str
    conversion: ConversionPolicy | None


@dataclass(frozen=True, slots=True)
class ThumbnailPolicy:
    """Sizes to make ahead: longest edges in pixels, or IIIF sizes (`w,` `,h` `!w,h`, each with
    `^`).
    """

    name: str
    sizes: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A policy as a customer sees it. `customer` is whose it is, None for one that is built in;
    `is_default` if it is taken where none is named.
    """

    kind: PolicyKind
    name: str
    customer: int | None
    definition: Mapping[str, Any]
    is_default: bool = False


class Policies:
    """All policies of the installation, by customer and name."""

    def __init__(
        self,
        settings: Ingest,
        stored: StoredPolicies | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `stored` there are the built-in ones only. Raises InvalidInput when the
        settings' thumbnail sizes cannot be made.
        """
        self._settings = settings
        self._stored = stored
        self._now = now
        self._cache: dict[tuple[PolicyKind, int], tuple[float, dict[str, PolicyEntry]]] = {}
        self._built_in: dict[PolicyKind, dict[str, PolicyEntry]] = {
            "optimisation": {
                name: PolicyEntry("optimisation", name, None, _definition(conversion))
                for name, conversion in (*POLICIES.items(), (USE_ORIGINAL, None))
            },
            "thumbnail": {
                DEFAULT: PolicyEntry(
                    "thumbnail",
                    DEFAULT,
                    None,
                    {"sizes": list(check_sizes(tuple(settings.thumbnail_policy)))},
                )
            },
        }

    @classmethod
    async def open(cls, settings: Ingest, stored: StoredPolicies) -> Policies:
        """The same, after a look at the settings' defaults. Raises InvalidInput when one is not
        there, CatalogUnavailable.
        """
        policies = cls(settings, stored)
        await policies.optimisation(EVERYONE, "")
        await policies.folder(EVERYONE)
        return policies

    async def optimisation(self, customer: int, name: str) -> OptimisationPolicy:
        """Return the policy of this name or address; the default for "". Raises InvalidInput,
        CatalogUnavailable.
        """
        entry = await self.find("optimisation", customer, name)
        if entry.customer is None and entry.name in POLICIES:
            return OptimisationPolicy(entry.name, POLICIES[entry.name])
        return OptimisationPolicy(entry.name, conversion_of(entry.name, entry.definition))

    async def thumbnails(self, customer: int, name: str) -> ThumbnailPolicy:
        """Return the policy of this name or address; the default for "". Raises InvalidInput,
        CatalogUnavailable.
        """
        entry = await self.find("thumbnail", customer, name)
        return ThumbnailPolicy(entry.name, sizes_of(entry.definition))

    async def folder(self, customer: int) -> OptimisationPolicy:
        """Return the policy of pictures that lie in the served folder. Raises as
        `optimisation`.
        """
        return await self.optimisation(customer, self._settings.folder_policy)

    async def preview(self, customer: int, name: str, width: int, height: int) -> list[Dimensions]:
        """Return the thumbnails that a picture of `width` by `height` pixels gets by a thumbnail
        policy, largest first. Raises InvalidInput, CatalogUnavailable.
        """
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise InvalidInput(f"Width and height are from 1 to {MAX_SIDE} pixels.")
        return sizes_by_edge((width, height), (await self.thumbnails(customer, name)).sizes)

    async def find(self, kind: PolicyKind, customer: int, name: str) -> PolicyEntry:
        """Return the policy of this name or address that a customer's pictures are made by; the
        default for "". Raises InvalidInput naming what there is, CatalogUnavailable.
        """
        known = await self._known(kind, customer)
        asked = name or self._default(kind)
        found = known.get(asked.rstrip("/").rpartition("/")[2])
        if found is None:
            names = ", ".join(sorted(known))
            raise InvalidInput(f"There is no {kind} policy {asked[:200]!r}; there are: {names}.")
        return found

    async def list(self, kind: PolicyKind, customer: int) -> list[PolicyEntry]:
        """Return every policy a customer may name, by name. Raises CatalogUnavailable."""
        known = await self._known(kind, customer)
        return [known[name] for name in sorted(known)]

    async def put(
        self, kind: PolicyKind, customer: int, name: str, definition: Mapping[str, Any]
    ) -> tuple[PolicyEntry, bool]:
        """Create or replace a policy of a customer (EVERYONE: global); True if it is new. What was
        made by the old one stays as it is. Raises InvalidInput, CatalogUnavailable.
        """
        check_name(name)
        if kind == "optimisation":
            conversion_of(name, definition)
        else:
            sizes_of(definition)
        row, is_new = await self._rows.put(kind, customer, name, dict(definition))
        self._cache.clear()
        return self._entry(kind, name, customer, row.definition), is_new

    async def delete(self, kind: PolicyKind, customer: int, name: str) -> None:
        """Remove a customer's own policy (EVERYONE: a global one). Raises NotFound,
        CatalogUnavailable.
        """
        done = await self._rows.delete(kind, customer, name)
        self._cache.clear()
        if not done:
            raise NotFound(f"There is no {kind} policy {name[:100]!r} of your own to remove.")

    @property
    def _rows(self) -> StoredPolicies:
        if self._stored is None:
            raise InvalidInput("Policies cannot be stored here.")
        return self._stored

    def _default(self, kind: PolicyKind) -> str:
        return self._settings.optimisation_policy if kind == "optimisation" else DEFAULT

    def _entry(
        self, kind: PolicyKind, name: str, customer: int | None, definition: Mapping[str, Any]
    ) -> PolicyEntry:
        return PolicyEntry(kind, name, customer, definition, name == self._default(kind))

    async def _known(self, kind: PolicyKind, customer: int) -> dict[str, PolicyEntry]:
        kept = self._cache.get((kind, customer))
        if kept is not None and self._now() < kept[0]:
            return kept[1]
        found = {
            name: self._entry(kind, name, None, entry.definition)
            for name, entry in self._built_in[kind].items()
        }
        if self._stored is not None:
            for row in await self._stored.for_customer(kind, customer):
                found[row.name] = self._entry(kind, row.name, row.customer, row.definition)
        if len(self._cache) >= _MOST_CUSTOMERS:
            self._cache.clear()
        self._cache[kind, customer] = (self._now() + CACHE_S, found)
        return found


def _definition(conversion: ConversionPolicy | None) -> dict[str, Any]:
    """Return the definition that means a built-in policy."""
    if conversion is None:
        return {"format": "original"}
    is_tiff = conversion.kind is SourceKind.PYRAMID_TIFF
    found: dict[str, Any] = {"format": "tiff" if is_tiff else "jpeg2000", "tile": conversion.tile}
    if conversion.lossless:
        return {**found, "lossless": True}
    if is_tiff:
        return {**found, "quality": conversion.quality}
    return {**found, "psnr": int(conversion.psnr)}
