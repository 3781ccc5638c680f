"""Buckets of the settings that hold origins: the source bucket and the image bucket of pyramids.

The customer of the pyramids needs no origin strategy for them. No other customer can read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import InvalidInput
from orchestrator.origins.origin_kinds import OriginKind
from orchestrator.origins.s3_address import LINK_SCHEME, parse_link
from orchestrator.settings import BucketLogin, Pyramids
from orchestrator.storage.customer_buckets import S3Login

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ConfiguredBucket:
    """How a bucket is read, and the strategy that this amounts to."""

    login: S3Login
    strategy: OriginStrategy


class ConfiguredBuckets:
    """Finds the bucket of an origin."""

    def __init__(self, customer: int, buckets: Mapping[str, ConfiguredBucket]) -> None:
        """`buckets` by name, which `customer` may read."""
        self._customer = customer
        self._buckets = dict(buckets)

    @classmethod
    def of(cls, settings: Pyramids) -> Self:
        """The buckets of these settings: none if no events make pyramids. Pyramids are optimised
        origins.
        """
        if not settings.has_buckets:
            return cls(settings.customer, {})
        source = _bucket(settings, settings.logins.get("source"), is_optimised=False)
        image = _bucket(settings, settings.logins.get("image"), is_optimised=True)
        return cls(
            settings.customer, {settings.source_bucket: source, settings.image_bucket: image}
        )

    def find(self, customer: int, origin: str) -> ConfiguredBucket | None:
        """The bucket of `s3://bucket/key`; None for any other origin."""
        if customer != self._customer or not origin.startswith(LINK_SCHEME):
            return None
        try:
            return self._buckets.get(parse_link(origin).bucket)
        except InvalidInput:
            return None


def _bucket(
    settings: Pyramids, login: BucketLogin | None, *, is_optimised: bool
) -> ConfiguredBucket:
    own = login or settings
    return ConfiguredBucket(
        S3Login(
            own.endpoint,
            own.region,
            own.access_key.get_secret_value(),
            own.secret_key.get_secret_value(),
        ),
        OriginStrategy(
            UUID(int=0),
            settings.customer,
            place=0,
            regex="",
            strategy=OriginKind.S3,
            credentials="",
            optimised=is_optimised,
            created=_NEVER,
            updated=_NEVER,
        ),
    )
