"""What requests did with a cache since the index thread last recorded it."""

from __future__ import annotations

from dataclasses import dataclass, field

MISSES_KEPT = 1000
"""Misses that are checked each time; without an index more would accumulate."""


@dataclass(slots=True)
class Activity:
    """The event loop adds, the index thread takes; `reads` belongs to the event loop."""

    uses: dict[str, float] = field(default_factory=dict)
    """Path in the cache -> time of its last use."""
    missed: set[str] = field(default_factory=set)
    """Paths that were requested and have no file; at most MISSES_KEPT."""
    pinned: set[str] = field(default_factory=set)
    """Ids of assets whose pinned products were used."""
    reads: dict[str, int] = field(default_factory=dict)
    """Path in the cache -> how many requests read it now; leased for that time."""

    def is_empty(self) -> bool:
        """True if there is nothing to record and no lease to renew."""
        return not (self.uses or self.missed or self.pinned or self.reads)

    def take_uses(self) -> dict[str, float]:
        """The uses; they are forgotten here."""
        uses, self.uses = self.uses, {}
        return uses

    def take_missed(self) -> set[str]:
        """The missed paths; they are forgotten here."""
        missed, self.missed = self.missed, set()
        return missed

    def take_pinned(self) -> set[str]:
        """The pinned assets; they are forgotten here."""
        pinned, self.pinned = self.pinned, set()
        return pinned
