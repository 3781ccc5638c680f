"""Named policies: how an original is made tile-ready, and which thumbnails are made ahead.

A name that is not known is refused with the names that are, never replaced by another. Policies may
be named by the last segment of an address, as the Engine's requests do
(`https://host/imageOptimisationPolicies/fastest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import InvalidInput
from orchestrator.iiif.thumbnails import thumbnail_size
from orchestrator.imaging import POLICIES, ConversionPolicy
from orchestrator.settings import Ingest

DEFAULT = "default"
USE_ORIGINAL = "use-original"

T = TypeVar("T")


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


class Policies:
    """All policies of the installation, by name."""

    def __init__(
        self, settings: Ingest, thumbnails: Mapping[str, tuple[int | str, ...]] | None = None
    ) -> None:
        """`thumbnails`: named policies besides `default`, which is `ingest.thumbnail_policy`.

        Raises InvalidInput when a default cannot be used.
        """
        self._optimisation = {
            name: OptimisationPolicy(name, conversion) for name, conversion in POLICIES.items()
        }
        self._optimisation[USE_ORIGINAL] = OptimisationPolicy(USE_ORIGINAL, None)
        named = {DEFAULT: tuple(settings.thumbnail_policy), **(thumbnails or {})}
        self._thumbnails = {
            name: ThumbnailPolicy(name, check_sizes(sizes)) for name, sizes in named.items()
        }
        self.default = self.optimisation(settings.optimisation_policy)
        self.folder = self.optimisation(settings.folder_policy or settings.optimisation_policy)

    def optimisation(self, name: str) -> OptimisationPolicy:
        """Return the policy of this name or address; the default for "". Raises InvalidInput."""
        if not name:
            return self.default
        return _find(self._optimisation, name, "optimisation")

    def thumbnails(self, name: str) -> ThumbnailPolicy:
        """Return the policy of this name or address; the default for "". Raises InvalidInput."""
        return _find(self._thumbnails, name or DEFAULT, "thumbnail")


def check_sizes(sizes: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return `sizes` unchanged when there is one and each can be made; raises InvalidInput."""
    if not sizes:
        raise InvalidInput("A thumbnail policy needs at least one size.")
    for size in sizes:
        thumbnail_size((1, 1), size)
    return sizes


def _find(policies: Mapping[str, T], name: str, kind: str) -> T:
    found = policies.get(name.rstrip("/").rpartition("/")[2])
    if found is None:
        known = ", ".join(sorted(policies))
        raise InvalidInput(f"There is no {kind} policy {name!r}; there are: {known}.")
    return found
