"""Which pool answers a request, by the rules of `image_server.rules`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from orchestrator.iiif.geometry import ResolvedImage
from orchestrator.model import Asset
from orchestrator.settings import ImageServerRule
from orchestrator.settings.image_server_section import DEFAULT

RequestClass = Literal["tile", "full", "info"]
"""An image of the whole picture, any other image, or an info document."""


@dataclass(frozen=True, slots=True)
class _Rule:
    requests: frozenset[str]
    asset_id: re.Pattern[str] | None
    sources: frozenset[str]
    min_pixels: int
    max_pixels: int
    pool: str

    def matches(self, request_class: RequestClass, asset: Asset) -> bool:
        pixels = asset.dimensions[0] * asset.dimensions[1]
        kind = "" if asset.source is None else asset.source.kind.value
        return (
            (not self.requests or request_class in self.requests)
            and (not self.sources or kind in self.sources)
            and pixels >= self.min_pixels
            and (not self.max_pixels or pixels <= self.max_pixels)
            and (self.asset_id is None or bool(self.asset_id.search(str(asset.id))))
        )


@dataclass(frozen=True, slots=True)
class PoolRules:
    """The rules in their order; the first that matches a request names its pool."""

    rules: tuple[_Rule, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[ImageServerRule]) -> Self:
        """The rules with their patterns compiled. Raises re.error for an invalid pattern."""
        return cls(
            tuple(
                _Rule(
                    frozenset(rule.requests),
                    re.compile(rule.asset_id) if rule.asset_id else None,
                    frozenset(rule.sources),
                    rule.min_pixels,
                    rule.max_pixels,
                    rule.pool,
                )
                for rule in rules
            )
        )

    def pool_for(self, request_class: RequestClass, asset: Asset) -> str:
        """The name of the pool that answers requests of this class for this asset."""
        for rule in self.rules:
            if rule.matches(request_class, asset):
                return rule.pool
        return DEFAULT


def class_of(image: ResolvedImage) -> RequestClass:
    """The class of a request for an image."""
    return "full" if image.full_region else "tile"
