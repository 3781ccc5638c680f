"""What the API answers of origin strategies, policies and storage."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import ConfigDict

from orchestrator.catalog.stored_policies import EVERYONE
from orchestrator.catalog.values import OriginStrategy, StorageUse
from orchestrator.ingest.policies import PolicyEntry
from orchestrator.origins.credentials import MASK
from orchestrator.origins.reader_types import OriginReport
from orchestrator.web.api.image_models import Answer, FaultOut, Size


class StrategyOut(Answer):
    """An origin strategy; credentials are never shown."""

    id: str
    customer: int
    place: int
    """Lower places are tried first."""
    regex: str
    strategy: str
    credentials: str
    """`xxx` where there are some."""
    optimised: bool
    created: datetime
    updated: datetime

    @classmethod
    def of(cls, strategy: OriginStrategy) -> Self:
        """From a stored strategy."""
        return cls(
            id=str(strategy.id),
            customer=strategy.customer,
            place=strategy.place,
            regex=strategy.regex,
            strategy=strategy.strategy,
            credentials=MASK if strategy.credentials else "",
            optimised=strategy.optimised,
            created=strategy.created,
            updated=strategy.updated,
        )


class StrategyList(Answer):
    """A customer's origin strategies in the order they are tried."""

    origin_strategies: list[StrategyOut]


class OriginFound(Answer):
    """What a dry run found out about an origin."""

    origin: str
    strategy: str
    """How it would be read."""
    origin_strategy: str | None
    """The id of the strategy that fits; null: read as anybody could."""
    optimised: bool
    fetchable: bool
    bytes: int | None
    media_type: str
    etag: str
    fault: FaultOut | None

    @classmethod
    def of(cls, found: OriginReport) -> Self:
        """From what was found."""
        return cls(
            origin=found.origin,
            strategy=str(found.kind),
            origin_strategy=None if found.strategy is None else str(found.strategy.id),
            optimised=found.optimised,
            fetchable=found.fault is None,
            bytes=found.bytes,
            media_type=found.media_type,
            etag=found.etag,
            fault=FaultOut.of(found.fault),
        )


class PolicyOut(Answer):
    """A policy."""

    model_config = ConfigDict(extra="allow")
    name: str
    scope: Literal["built-in", "global", "customer"]
    default: bool
    """Taken where none is named."""

    @classmethod
    def of(cls, entry: PolicyEntry) -> Self:
        """From a policy, its definition beside its name."""
        said = {
            **entry.definition,
            "name": entry.name,
            "scope": {None: "built-in", EVERYONE: "global"}.get(entry.customer, "customer"),
            "default": entry.is_default,
        }
        return cls.model_validate(said, by_alias=False, by_name=True)


class PolicyList(Answer):
    """Policies by name."""

    policies: list[PolicyOut]


class Preview(Answer):
    """The thumbnails an image of this size gets by a policy, largest first."""

    policy: str
    width: int
    height: int
    thumbnails: list[Size]


class StorageOut(Answer):
    """A customer's limits (null: none) and what is used of them."""

    maximum_number_of_stored_images: int | None
    maximum_total_size_of_stored_images: int | None
    number_of_stored_images: int
    total_size_of_stored_images: int
    reserved_images: int
    """By ingests under way."""
    reserved_size: int

    @classmethod
    def of(cls, use: StorageUse) -> Self:
        """From a customer's use."""
        return cls(
            maximum_number_of_stored_images=use.max_images,
            maximum_total_size_of_stored_images=use.max_bytes,
            number_of_stored_images=use.images,
            total_size_of_stored_images=use.stored,
            reserved_images=use.reserved_images,
            reserved_size=use.reserved_bytes,
        )
