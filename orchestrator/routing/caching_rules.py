"""Which assets the disk caches pin and which sources are never copied, by the asset's own fields or
by the rules of the setting `cache.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from orchestrator.model import Asset
from orchestrator.settings import CacheRule


@dataclass(frozen=True, slots=True)
class CachingRules:
    """The rules of `cache.rules`, compiled."""

    pins: tuple[re.Pattern[str], ...] = ()
    never: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, rules: Iterable[CacheRule]) -> Self:
        """The rules with their patterns compiled. Raises re.error for an invalid pattern."""
        compiled = [(rule, re.compile(rule.asset_id)) for rule in rules]
        return cls(
            tuple(pattern for rule, pattern in compiled if rule.pinned),
            tuple(pattern for rule, pattern in compiled if not rule.orchestrate),
        )

    def is_pinned_id(self, text: str) -> bool:
        """True if a rule pins the asset with this text id."""
        return any(pattern.search(text) for pattern in self.pins)

    def is_pinned(self, asset: Asset) -> bool:
        """True if the scavenger must never evict the asset's files to make room."""
        return asset.pinned or (bool(self.pins) and self.is_pinned_id(str(asset.id)))

    def may_orchestrate(self, asset: Asset) -> bool:
        """True if the asset's source may be copied to fast disk."""
        if not self.never:
            return asset.orchestrate
        text = str(asset.id)
        return asset.orchestrate and not any(pattern.search(text) for pattern in self.never)
