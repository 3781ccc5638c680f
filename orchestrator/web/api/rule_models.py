"""Response models of origin strategies, policies and storage limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AliasPath, BeforeValidator, ConfigDict, Field

from orchestrator.catalog.stored_policies import EVERYONE
from orchestrator.ingest.policies import PolicyEntry
from orchestrator.origins.credentials import MASK
from orchestrator.web.api.image_models import Size
from orchestrator.web.api.response_model import FaultOut, ResponseModel


def _mask(credentials: str) -> str:
    return MASK if credentials else ""


def _is_none(value: object) -> bool:
    return value is None


class StrategyOut(ResponseModel):
    """An origin strategy; its credentials are never sent."""

    id: Annotated[str, BeforeValidator(str)]
    customer: int
    place: int
    """Strategies with lower places are tried first."""
    regex: str
    strategy: str
    credentials: Annotated[str, BeforeValidator(_mask)]
    """`xxx` if the strategy has credentials, else ""."""
    optimised: bool
    created: datetime
    updated: datetime


class StrategyList(ResponseModel):
    """A customer's origin strategies in the order in which they are tried."""

    origin_strategies: list[StrategyOut]


class OriginFound(ResponseModel):
    """The result of testing an origin."""

    # `origin_strategy` has a default for an origin that no strategy matches, and is always sent.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    origin: str
    strategy: str = Field(validation_alias="kind")
    """How the origin would be read."""
    origin_strategy: Annotated[str | None, BeforeValidator(str)] = Field(
        default_factory=lambda: None, validation_alias=AliasPath("strategy", "id")
    )
    """The id of the strategy that matches; null: the origin would be read without credentials."""
    optimised: bool
    fetchable: Annotated[bool, BeforeValidator(_is_none)] = Field(validation_alias="fault")
    bytes: int | None
    media_type: str
    etag: str
    fault: FaultOut | None


class PolicyOut(ResponseModel):
    """A policy."""

    model_config = ConfigDict(extra="allow")
    name: str
    scope: Literal["built-in", "global", "customer"]
    default: bool
    """True if this policy is used when a request names none."""

    @classmethod
    def of(cls, entry: PolicyEntry) -> Self:
        """Return the policy with the properties of its definition beside its name."""
        fields = {
            **entry.definition,
            "name": entry.name,
            "scope": {None: "built-in", EVERYONE: "global"}.get(entry.customer, "customer"),
            "default": entry.is_default,
        }
        return cls.model_validate(fields, by_alias=False, by_name=True)


class PolicyList(ResponseModel):
    """Policies by name."""

    policies: list[PolicyOut]


class Preview(ResponseModel):
    """The thumbnails that a policy makes of an image of this size, largest first."""

    policy: str
    width: int
    height: int
    thumbnails: list[Size]


class StorageOut(ResponseModel):
    """A customer's storage limits (null: no limit) and what the customer uses of them."""

    maximum_number_of_stored_images: int | None = Field(validation_alias="max_images")
    maximum_total_size_of_stored_images: int | None = Field(validation_alias="max_bytes")
    number_of_stored_images: int = Field(validation_alias="images")
    total_size_of_stored_images: int = Field(validation_alias="stored")
    reserved_images: int
    """Reserved by ingests that run."""
    reserved_size: int = Field(validation_alias="reserved_bytes")
