"""Response models of assets. The paths and the models of the API say `image` for an asset."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasPath, BeforeValidator, ConfigDict, Field

from orchestrator.model import AssetState
from orchestrator.web.api.response_model import FaultOut, ResponseModel

Size = Annotated[list[int], Field(min_length=2, max_length=2)]
"""(width, height) in pixels."""


class AttemptOut(ResponseModel):
    """One ingest of an asset."""

    outcome: Literal["completed", "unchanged", "failed", "superseded"]
    started: datetime
    finished: datetime | None
    version: int | None
    bytes: int
    job: int | None
    fault: FaultOut | None


class Thumbnails(ResponseModel):
    """Sizes of the stored thumbnails, (width, height) in pixels, largest first. `open`: anyone may
    read them; `auth`: a client needs a role.
    """

    open: list[Size]
    auth: list[Size]


class ImageOut(ResponseModel):
    """An asset."""

    # `source` and `bytes` have defaults for an asset without a source, and are always sent.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: Annotated[str, BeforeValidator(str)]
    """`customer/space/name`; a slash in the name is written %2F."""
    customer: int = Field(validation_alias=AliasPath("id", "customer"))
    space: int = Field(validation_alias=AliasPath("id", "space"))
    name: str = Field(validation_alias=AliasPath("id", "name"))
    state: AssetState
    """`registered`: served from its original; `ingesting`: an ingest waits or runs, and the
    previous version is served; `ready`: converted; `failed`: see `error`.
    """
    ingesting: bool
    servable: bool
    """True if there is a version that can be served."""
    error: str
    """Why the latest ingest failed; "" otherwise."""
    error_code: str
    """The code of `error`, for programs (docs/http.md); "" if it has none."""
    version: int
    generation: int
    """Of the last accepted change; it grows with each."""
    width: int
    height: int
    media_type: str
    origin: str
    image_optimisation_policy: str = Field(validation_alias="optimisation_policy")
    thumbnail_policy: str
    roles: list[str]
    max_unauthorised: int
    tags: list[str]
    manifests: list[str]
    string1: str = Field(validation_alias=AliasPath("strings", 0))
    string2: str = Field(validation_alias=AliasPath("strings", 1))
    string3: str = Field(validation_alias=AliasPath("strings", 2))
    number1: int = Field(validation_alias=AliasPath("numbers", 0))
    number2: int = Field(validation_alias=AliasPath("numbers", 1))
    number3: int = Field(validation_alias=AliasPath("numbers", 2))
    rights: str
    batch: int | None
    """The batch of the latest ingest."""
    finished: datetime | None
    """When the latest ingest ended, with success or not; null while one is unfinished."""
    updated: datetime | None
    thumbnails: Thumbnails
    source: str | None = Field(
        default_factory=lambda: None, validation_alias=AliasPath("source", "kind")
    )
    """The format of the source: jpeg2000, pyramid-tiff or original."""
    bytes: int = Field(default_factory=int, validation_alias=AliasPath("source", "bytes"))
    """Bytes of the source."""


class ImageShown(ImageOut):
    """An asset with the history of its ingests."""

    attempts: list[AttemptOut]
    """Latest first, at most 20."""


class ImageTaken(ImageOut):
    """An asset that was ingested while the client waited."""

    changed: bool
    """False if the bytes at the origin had not changed."""


class Deletion(ResponseModel):
    """What the deletion of an asset removed. Each host drops its cached files of the asset when it
    receives the notice.
    """

    id: str
    objects: int
    """Objects that the store no longer needs; the housekeeping process removes them later."""
    bytes: int


class Images(ResponseModel):
    """A page of assets."""

    images: list[ImageOut]
    next: str | None
    """The address of the next page; null on the last one."""
