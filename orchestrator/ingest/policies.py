"""Named policies: how an original is made tile-ready, and which thumbnails are made of it.

A customer's own policy has precedence over a global one, and that over a built-in one of the same
name. An unknown name is refused with a list of the known names. A policy can be named by the last
segment of a URL (`https://host/imageOptimisationPolicies/fastest`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

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
"""After this many seconds, a process that missed the notice of a changed policy uses it."""
_MAX_CACHED = 1000


@dataclass(frozen=True, slots=True)
class OptimisationPolicy:
    """How the tile-ready source is made. Without `conversion` the original is the source."""

    name: str
    conversion: ConversionPolicy | None


@dataclass(frozen=True, slots=True)
class ThumbnailPolicy:
    """Sizes of thumbnails: longest edges in pixels, or IIIF sizes (`w,` `,h` `!w,h`, optionally
    with `^`).
    """

    name: str
    sizes: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A policy as a customer sees it. `customer` is the owner, None for a built-in policy.
    `is_default`: it is used if no policy is named.
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
        """Without `stored` only the built-in policies exist. Raises InvalidInput for thumbnail
        sizes in the settings that are not valid.
        """
        self._settings = settings
        self._stored = stored
        self._cache: TTLCache[tuple[PolicyKind, int], dict[str, PolicyEntry]] = TTLCache(
            _MAX_CACHED, CACHE_S, timer=now
        )
        self._changes = 0
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

    async def check_defaults(self) -> None:
        """Check the default policies of the settings. Raises InvalidInput if one of them does not
        exist, CatalogUnavailable.
        """
        await self.optimisation(EVERYONE, "")
        await self.folder(EVERYONE)

    async def optimisation(self, customer: int, name: str) -> OptimisationPolicy:
        """Return the policy of this name or URL; the default for "". It is read from the catalogue.
        Raises InvalidInput, CatalogUnavailable.
        """
        entry = await self.find("optimisation", customer, name, fresh=True)
        if entry.customer is None and entry.name in POLICIES:
            return OptimisationPolicy(entry.name, POLICIES[entry.name])
        return OptimisationPolicy(entry.name, conversion_of(entry.name, entry.definition))

    async def thumbnails(self, customer: int, name: str) -> ThumbnailPolicy:
        """Return the policy of this name or URL; the default for "". It is read from the catalogue.
        Raises InvalidInput, CatalogUnavailable.
        """
        entry = await self.find("thumbnail", customer, name, fresh=True)
        return ThumbnailPolicy(entry.name, sizes_of(entry.definition))

    async def folder(self, customer: int) -> OptimisationPolicy:
        """Return the policy for the pictures of the served folder. Raises as `optimisation`."""
        return await self.optimisation(customer, self._settings.folder_policy)

    async def preview(self, customer: int, name: str, width: int, height: int) -> list[Dimensions]:
        """Return the thumbnails that a thumbnail policy makes of a picture of `width` by `height`
        pixels, largest first. Raises InvalidInput, CatalogUnavailable.
        """
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise InvalidInput(f"Width and height must be from 1 to {MAX_SIDE} pixels.")
        return sizes_by_edge((width, height), (await self.thumbnails(customer, name)).sizes)

    async def find(
        self, kind: PolicyKind, customer: int, name: str, *, fresh: bool = False
    ) -> PolicyEntry:
        """Return the policy of this name or URL for a customer; the default for "". Without `fresh`
        it may be some moments old. Raises InvalidInput with the known names, CatalogUnavailable.
        """
        name = name or self._default(kind)
        last_segment = name.rstrip("/").rpartition("/")[2]
        entries = await self._entries(kind, customer, fresh=fresh)
        if last_segment not in entries and not fresh:
            entries = await self._entries(kind, customer, fresh=True)
        entry = entries.get(last_segment)
        if entry is None:
            names = ", ".join(sorted(entries))
            raise InvalidInput(f"There is no {kind} policy {name[:200]!r}. Use one of: {names}.")
        return entry

    async def list(self, kind: PolicyKind, customer: int) -> list[PolicyEntry]:
        """Return every policy a customer may name, in order of the names. Raises
        CatalogUnavailable.
        """
        entries = await self._entries(kind, customer, fresh=True)
        return [entries[name] for name in sorted(entries)]

    async def put(
        self, kind: PolicyKind, customer: int, name: str, definition: Mapping[str, Any]
    ) -> tuple[PolicyEntry, bool]:
        """Create or replace a policy of a customer (EVERYONE: global). Returns it, and True if it
        is new. Assets made with the old policy stay as they are. Raises InvalidInput,
        CatalogUnavailable.
        """
        check_name(name)
        if kind == "optimisation":
            conversion_of(name, definition)
        else:
            sizes_of(definition)
        row, is_new = await self._rows.put(kind, customer, name, dict(definition))
        self.forget()
        return self._entry(kind, name, customer, row.definition), is_new

    async def delete(self, kind: PolicyKind, customer: int, name: str) -> None:
        """Delete a customer's own policy (EVERYONE: a global one). Raises NotFound,
        CatalogUnavailable.
        """
        is_deleted = await self._rows.delete(kind, customer, name)
        self.forget()
        if not is_deleted:
            raise NotFound(f"You have no {kind} policy {name[:100]!r} of your own.")

    def forget(self) -> None:
        """Read all policies again when they are needed."""
        self._changes += 1
        self._cache.clear()

    @property
    def _rows(self) -> StoredPolicies:
        if self._stored is None:
            raise InvalidInput("Policies cannot be stored without a database.")
        return self._stored

    def _default(self, kind: PolicyKind) -> str:
        return self._settings.optimisation_policy if kind == "optimisation" else DEFAULT

    def _entry(
        self, kind: PolicyKind, name: str, customer: int | None, definition: Mapping[str, Any]
    ) -> PolicyEntry:
        return PolicyEntry(kind, name, customer, definition, name == self._default(kind))

    async def _entries(
        self, kind: PolicyKind, customer: int, *, fresh: bool
    ) -> dict[str, PolicyEntry]:
        cached = self._cache.get((kind, customer))
        if cached is not None and not fresh:
            return cached
        changes = self._changes
        entries = {
            name: self._entry(kind, name, None, entry.definition)
            for name, entry in self._built_in[kind].items()
        }
        if self._stored is not None:
            for row in await self._stored.for_customer(kind, customer):
                entries[row.name] = self._entry(kind, row.name, row.customer, row.definition)
        if changes == self._changes:  # else they may be older than a change made since
            self._cache[kind, customer] = entries
        return entries


def _definition(conversion: ConversionPolicy | None) -> dict[str, Any]:
    """Return the definition of a built-in policy."""
    if conversion is None:
        return {"format": "original"}
    is_tiff = conversion.kind is SourceKind.PYRAMID_TIFF
    name = "tiff" if is_tiff else "jpeg2000"
    definition: dict[str, Any] = {"format": name, "tile": conversion.tile}
    if conversion.lossless:
        return {**definition, "lossless": True}
    if is_tiff:
        return {**definition, "quality": conversion.quality}
    return {**definition, "psnr": int(conversion.psnr)}
