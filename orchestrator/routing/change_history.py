"""Which assets changed while this process runs, and whether it could miss a change.

Caches of the catalogue ask it whether a value that they read earlier may be out of date. Changes
are numbered; a cache notes the number when it starts a read.
"""

from __future__ import annotations

from cachetools import LRUCache

from orchestrator.model import AssetId


class ChangeHistory:
    """The number of the last change, for each asset and in total."""

    def __init__(self, entries: int) -> None:
        """Keeps the last change of at most `entries` assets."""
        self.is_listening = True
        """False while change notices do not arrive."""
        self.number = 0
        self._trusted_from = 0
        self._last_change: LRUCache[AssetId, int] = LRUCache(entries)

    def record(self, asset_id: AssetId) -> None:
        """A notice says that the asset changed."""
        self.number += 1
        self._last_change[asset_id] = self.number

    def set_listening(self, is_listening: bool) -> None:
        """Change notices stopped or started to arrive. A read that began before this moment is no
        longer trusted: a change of what it read may have no notice.
        """
        self.number += 1
        self._trusted_from = self.number
        self.is_listening = is_listening

    def is_trusted(self, number: int) -> bool:
        """True if every change since `number` had a notice, and notices arrive now."""
        return self.is_listening and number >= self._trusted_from

    def has_changed(self, asset_id: AssetId | None, number: int) -> bool:
        """True if the asset had a change after `number`; for None, if any asset had."""
        last = self.number if asset_id is None else self._last_change.get(asset_id, 0)
        return number < last
