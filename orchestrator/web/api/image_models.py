"""What the API answers of images, and every error, as /openapi.json describes it. Answers are made
by `of`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orchestrator.catalog.values import Attempt
from orchestrator.errors import Fault
from orchestrator.model import Asset, AssetState

Size = Annotated[list[int], Field(min_length=2, max_length=2)]
"""(width, height) in pixels."""


class Answer(BaseModel):
    """A document of ours."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=False,
        use_attribute_docstrings=True,
    )


class Problem(Answer):
    """Why a request was refused or failed."""

    error: str
    """A sentence for people."""
    status: int
    request_id: str
    """Also in the access log and in X-Request-Id."""
    code: str
    """A word for programs."""
    stage: str
    """What was being done: fetch, convert, store ...; "" outside ingest."""
    retryable: bool
    """The same request, later, can succeed."""
    detail: str
    faults: list[str] | None = None
    """Each single fault of a body that has several."""


class FaultOut(Answer):
    """Why an ingest failed."""

    code: str
    stage: str
    retryable: bool
    detail: str

    @classmethod
    def of(cls, fault: Fault | None) -> Self | None:
        """From a fault, if there is one."""
        if fault is None:
            return None
        return cls(
            code=fault.code, stage=fault.stage, retryable=fault.retryable, detail=fault.detail
        )


class AttemptOut(Answer):
    """One ingest of an image."""

    outcome: Literal["completed", "unchanged", "failed"]
    started: datetime
    finished: datetime | None
    version: int | None
    bytes: int
    job: int | None
    fault: FaultOut | None

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """From an attempt."""
        return cls(
            outcome=attempt.outcome,
            started=attempt.started,
            finished=attempt.finished,
            version=attempt.version,
            bytes=attempt.bytes,
            job=attempt.job,
            fault=FaultOut.of(attempt.fault),
        )


class Thumbnails(Answer):
    """Sizes made ahead, (width, height), largest first: for anybody, and for those with a right."""

    open: list[Size]
    auth: list[Size]


class ImageOut(Answer):
    """An image."""

    id: str
    """`customer/space/name`, slashes of the name as %2F."""
    customer: int
    space: int
    name: str
    state: AssetState
    """`ingesting`: an ingest is asked for or under way, what there was is served meanwhile;
    `registered`: answered from its original; `ready`: converted; `failed`: see `error`.
    """
    ingesting: bool
    servable: bool
    """There is something to show of it."""
    error: str
    """Why its latest ingest failed; "" otherwise."""
    version: int
    width: int
    height: int
    media_type: str
    origin: str
    image_optimisation_policy: str
    thumbnail_policy: str
    roles: list[str]
    max_unauthorised: int
    tags: list[str]
    string1: str
    string2: str
    string3: str
    number1: int
    number2: int
    number3: int
    rights: str
    batch: int | None
    """The batch its latest ingest came with."""
    finished: datetime | None
    """When its latest ingest ended, well or not."""
    updated: datetime | None
    thumbnails: Thumbnails
    source: str | None
    """What it is served from: jpeg2000, pyramid-tiff or original."""
    bytes: int
    """Of what it is served from."""

    @classmethod
    def of(cls, asset: Asset, **more: Any) -> Self:
        """From an asset."""
        source = asset.source
        return cls(
            id=str(asset.id),
            customer=asset.id.customer,
            space=asset.id.space,
            name=asset.id.name,
            state=asset.state,
            ingesting=asset.state is AssetState.INGESTING,
            servable=asset.servable,
            error=asset.error,
            version=asset.version,
            width=asset.width,
            height=asset.height,
            media_type=asset.media_type,
            origin=asset.origin,
            image_optimisation_policy=asset.optimisation_policy,
            thumbnail_policy=asset.thumbnail_policy,
            roles=list(asset.roles),
            max_unauthorised=asset.max_unauthorised,
            tags=list(asset.tags),
            string1=asset.strings[0],
            string2=asset.strings[1],
            string3=asset.strings[2],
            number1=asset.numbers[0],
            number2=asset.numbers[1],
            number3=asset.numbers[2],
            rights=asset.rights,
            batch=asset.batch,
            finished=asset.finished,
            updated=asset.updated,
            thumbnails=Thumbnails(
                open=[list(size) for size in asset.thumbnails.open],
                auth=[list(size) for size in asset.thumbnails.auth],
            ),
            source=None if source is None else source.kind.value,
            bytes=0 if source is None else source.bytes,
            **more,
        )


class ImageShown(ImageOut):
    """An image with the history of its ingests."""

    attempts: list[AttemptOut]
    """Latest first, at most 20."""


class ImageTaken(ImageOut):
    """An image that was taken in while the client waited."""

    changed: bool
    """False when its origin had nothing new."""


class Deletion(Answer):
    """What a deletion did; caches of every host forget the image as they hear of it."""

    id: str
    objects: int
    """Objects of the store that nobody needs any more; they are removed behind this answer."""
    bytes: int


class Images(Answer):
    """A page of images."""

    images: list[ImageOut]
    next: str | None
    """Where the next page is."""
