"""The values the catalogue takes and gives beside `model.Asset`. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from orchestrator.model import Asset, AssetId, Source


@dataclass(frozen=True, slots=True)
class AssetDraft:
    """What is to be recorded of an asset when its original is (again) taken in.

    None leaves what an earlier version of the asset had: taking a picture in again must not open a
    restricted one. `source` is the original itself; `origin_fingerprint` (the source's, unless
    given) tells whether it changed.
    """

    id: AssetId
    origin: str
    width: int
    height: int
    media_type: str
    source: Source | None
    origin_fingerprint: str = ""
    optimisation_policy: str = ""
    thumbnail_policy: str = ""
    roles: tuple[str, ...] | None = None
    max_unauthorised: int | None = None
    strings: tuple[str, str, str] | None = None
    numbers: tuple[int, int, int] | None = None
    tags: tuple[str, ...] | None = None
    rights: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """The asset as it now is; `changed` is False when the draft told nothing new of its pixels."""

    asset: Asset
    changed: bool


@dataclass(frozen=True, slots=True)
class Customer:
    """Whose assets they are; the id is the first part of an AssetId."""

    id: int
    name: str
    created: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be shown of a key. A revoked key has the time of its revocation."""

    id: str
    customer: int
    created: datetime
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made: the only time its secret can be seen."""

    id: str
    customer: int
    secret: str


@dataclass(frozen=True, slots=True)
class StrategyDraft:
    """How origins that `regex` finds are read. `credentials` are sealed, or a link `s3://...`, or
    none (""); `optimised` origins may be served from where they are.
    """

    regex: str
    strategy: str
    credentials: str = field(default="", repr=False)
    optimised: bool = False
    place: int = 0
    """Lower places are tried first."""


@dataclass(frozen=True, slots=True)
class OriginStrategy:
    """A stored StrategyDraft of one customer."""

    id: UUID
    customer: int
    place: int
    regex: str
    strategy: str
    credentials: str = field(repr=False)
    optimised: bool
    created: datetime
    updated: datetime
