"""The values the catalogue takes and gives beside `model.Asset`. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from orchestrator.errors import Fault
from orchestrator.model import Asset, AssetId, Source

ObjectKind = Literal["source", "original", "thumbnail", "sizes"]
AttemptOutcome = Literal["completed", "unchanged", "failed"]


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
    origin_etag: str = ""
    origin_sha256: str = ""
    batch: int | None = None
    """The batch that asked for it, if one did."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object in the store, or about to be: a key is written once in its life."""

    key: str
    kind: ObjectKind
    bytes: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What the ledger knows of one object; `version` is the number it was written under."""

    id: AssetId
    object: StoredObject
    version: int
    state: Literal["writing", "live", "unwanted"]
    since: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ingest of an asset, as its history has it. `bytes` of the original read; `fault` when it
    failed.
    """

    asset: AssetId
    started: datetime
    outcome: AttemptOutcome
    job: int | None = None
    version: int | None = None
    bytes: int = 0
    fault: Fault | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a finishing transaction does beside the asset's row: `objects`, entered before, become
    live, the reservation is used up, the attempt goes into the history.
    """

    objects: tuple[StoredObject, ...] = ()
    reservation: UUID | None = None
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class StorageUse:
    """A customer's storage policy (None: no limit), what is stored, and what ingests under way have
    reserved. Bytes count sources, originals and thumbnails; images those that have any.
    """

    customer: int
    max_images: int | None = None
    max_bytes: int | None = None
    images: int = 0
    stored: int = 0
    reserved_images: int = 0
    reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Deletion:
    """What the end of an asset did: how many objects of the store, and bytes, nobody wants now."""

    asset: Asset
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Registration:
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
    admin: bool = False
    """It reaches every customer, and what is global."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made: the only time its secret can be seen."""

    id: str
    customer: int
    secret: str
    admin: bool = False

    @property
    def token(self) -> str:
        """Id and secret as one word, for `Authorization: Bearer`."""
        return f"{self.id}.{self.secret}"


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
