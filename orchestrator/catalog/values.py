"""The values that the catalogue accepts and returns besides `model.Asset`. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from orchestrator.errors import Fault
from orchestrator.model import Asset, AssetId, Source

ObjectKind = Literal["source", "original", "thumbnail", "sizes", "upload"]
AttemptOutcome = Literal["completed", "unchanged", "failed", "superseded"]


@dataclass(frozen=True, slots=True)
class AssetDraft:
    """What to record of an asset when its original is ingested, for the first time or again.

    A field that is None keeps the value of the version before: ingesting a restricted asset again
    must not make it public. `source` is the original itself. `origin_fingerprint`, by default that
    of the source, shows whether the original changed.
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
    manifests: tuple[str, ...] | None = None
    rights: str | None = None
    made_with: str = ""
    """Identifies the definitions of both policies."""
    origin_etag: str = ""
    origin_sha256: str = ""
    batch: int | None = None
    """The batch that the ingest belongs to, if any."""
    force: bool = False
    """Ingest the asset even if nothing about it has changed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is in the store or about to be written. A key is written only once."""

    key: str
    kind: ObjectKind
    bytes: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger. `version` is the number that the object was written under."""

    id: AssetId
    object: StoredObject
    version: int
    state: Literal["writing", "live", "unwanted"]
    since: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to ingest an asset, for its history. `bytes` is the number of bytes read from the
    origin; `fault` is set when the attempt failed.
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
    """What the transaction that ends an ingest changes besides the asset's row: `objects`, which
    are in the ledger, become live, the reservation is used, the attempt is added to the history.
    """

    objects: tuple[StoredObject, ...] = ()
    reservation: UUID | None = None
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class StorageUse:
    """A customer's limits (None: no limit), what is stored, and what running ingests have reserved.
    Bytes include sources, originals and thumbnails. Images are the assets that have any of these.
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
    """A deleted asset, and how many objects and bytes of the store became unwanted."""

    asset: Asset
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Registration:
    """The asset as it is now. `changed` is False when the draft had nothing new."""

    asset: Asset
    changed: bool


@dataclass(frozen=True, slots=True)
class Customer:
    """An owner of assets. The id is the first part of an AssetId."""

    id: int
    name: str
    created: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The public part of a key. `revoked` is the time of its revocation, if any."""

    id: str
    customer: int
    created: datetime
    revoked: datetime | None = None
    admin: bool = False
    """It gives access to all customers and to what is global."""
    label: str = ""
    made_by: str = ""
    """The id of the key that made it by the API; "" for a command."""


@dataclass(frozen=True, slots=True)
class Space:
    """A part of a customer's assets. `created` is None for a space that no request created, but
    that has assets.
    """

    customer: int
    id: int
    name: str = ""
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A new key. Its secret cannot be read later."""

    id: str
    customer: int
    secret: str
    admin: bool = False
    label: str = ""

    @property
    def token(self) -> str:
        """Id and secret as one token, for `Authorization: Bearer`."""
        return f"{self.id}.{self.secret}"


@dataclass(frozen=True, slots=True)
class StrategyDraft:
    """How origins that `regex` matches are read. `credentials` are encrypted, or a link `s3://...`,
    or "" for none. `optimised` origins may be served without copying them to the store.
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
