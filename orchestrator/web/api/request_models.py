"""Request models of the API: bodies and queries. Properties that the model of a body does not have
are ignored; parameters that the model of a query does not have are refused.

The docstring of a field is its description in /openapi.json.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from orchestrator.catalog.jobs import State
from orchestrator.ingest.payload.fields import (
    Body,
    Edge,
    Fields,
    Number,
    Text,
    whole_number,
)
from orchestrator.ingest.policy_definitions import split_edges

_MAX_NUMBER = 2**62

WholeNumber = Annotated[int, BeforeValidator(whole_number)]
QueryText = Annotated[Text, Field(max_length=500)]
"""A text in an address, which has about 8000 characters in all."""
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(whole_number)]


class Paged(Fields):
    """The part of a list that is answered."""

    limit: Limit = 100
    """The largest number of entries on a page."""


class BeforeQuery(Paged):
    """A page of a list that is sorted by age, newest first."""

    before: Annotated[int, Field(ge=1, le=_MAX_NUMBER), BeforeValidator(whole_number)] | None = None
    """The page begins after this number."""


class BatchesQuery(BeforeQuery):
    """The batches that are listed."""

    state: Literal["active", "finished"] | None = None
    """`active`: only unfinished batches; `finished`: only finished ones."""


class RecentQuery(Paged):
    """A page of the finished batches."""

    before: Annotated[str, Field(pattern=r"^[0-9]{1,16}-[0-9]{1,18}$")] | None = None
    """Where the page begins: a value of `next` of the page before."""


class JobsQuery(BeforeQuery):
    """The jobs that are listed."""

    state: State | None = None
    batch: Annotated[int, Field(ge=1, le=_MAX_NUMBER), BeforeValidator(whole_number)] | None = None
    image: Text | None = None
    """The asset that the jobs work on, `customer/space/name`."""
    customer: Annotated[int, Field(ge=1, le=999_999_999), BeforeValidator(whole_number)] | None = (
        None
    )


class PictureQuery(Fields):
    """The properties of an asset whose picture is the body; a JSON body has them itself."""

    image_optimisation_policy: QueryText | None = None
    """Its name."""
    thumbnail_policy: QueryText | None = None
    """Its name."""
    roles: QueryText | None = None
    """Roles that may see the whole image, with commas."""
    max_unauthorised: Edge | None = None
    """Longest edge in pixels that every client may see; 0 for nothing, -1 for no limit."""
    tags: QueryText | None = None
    """With commas."""
    string1: QueryText | None = None
    string2: QueryText | None = None
    string3: QueryText | None = None
    number1: Number | None = None
    number2: Number | None = None
    number3: Number | None = None
    rights: QueryText | None = None
    """URL of the rights statement."""


class PreviewQuery(Fields):
    """The size of an image."""

    width: Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole_number)]
    """Pixels."""
    height: Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole_number)]
    """Pixels."""


class StrategyIn(Fields):
    """An origin strategy."""

    regex: Annotated[str, Field(min_length=1, max_length=1000)]
    """A regular expression. The strategy reads the origins in which it matches anywhere; upper and
    lower case are equal.
    """
    strategy: Text
    """basic-http-auth, s3, s3-ambient, s3-public, sftp, ftp, file or default."""
    credentials: str | dict[str, Any] | None = None
    """A JSON object, or the address of one, `s3://region/bucket/key`. Absent or `xxx`: the stored
    credentials stay.
    """
    optimised: bool = False
    """True: the policy use-original serves the bytes from the origin and does not copy them."""
    place: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole_number)] = 0
    """Strategies with lower places are tried first."""


class StrategyPatch(Fields):
    """The properties of an origin strategy that change."""

    regex: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    strategy: Text | None = None
    credentials: str | dict[str, Any] | None = None
    optimised: bool | None = None
    place: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole_number)] | None = None


class OriginTest(Fields):
    """An origin to test."""

    origin: Annotated[str, Field(min_length=1, max_length=4000)]


class OptimisationIn(Fields):
    """How an original is converted to a source."""

    format: Literal["jpeg2000", "tiff", "original"]
    """`original`: the original itself is the source."""
    quality: WholeNumber | None = None
    """1 to 100."""
    psnr: WholeNumber | None = None
    """JPEG2000 only, instead of `quality`: peak signal-to-noise ratio in decibels."""
    lossless: bool | None = None
    tile: WholeNumber | None = None
    """Tile edge in pixels."""


class ThumbnailIn(Fields):
    """The thumbnails that are made."""

    sizes: Annotated[
        list[int | str],
        Field(min_length=1, max_length=32),
        BeforeValidator(split_edges),
        WithJsonSchema(
            {
                "anyOf": [
                    {
                        "type": "array",
                        "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                        "minItems": 1,
                        "maxItems": 32,
                    },
                    {"type": "string", "pattern": "^[0-9]{1,6}(, ?[0-9]{1,6})*$"},
                ]
            }
        ),
    ]
    """Longest edges in pixels, or IIIF sizes such as `!400,400` and `200,`. Longest edges may
    also be written as one text: `1000,400,200,100`.
    """


class StorageIn(Fields):
    """A customer's storage limits; absent or null: no limit."""

    maximum_number_of_stored_images: (
        Annotated[int, Field(ge=0, le=_MAX_NUMBER), BeforeValidator(whole_number)] | None
    ) = None
    maximum_total_size_of_stored_images: (
        Annotated[int, Field(ge=0, le=_MAX_NUMBER), BeforeValidator(whole_number)] | None
    ) = None
    """Bytes of sources, originals and thumbnails."""


class BatchIn(Fields):
    """Assets to ingest together."""

    member: Annotated[list[Body], Field(min_length=1)]
    """`members` and `images` are accepted as names of this property, and so is a list without an
    object around it.
    """


class EventsIn(BaseModel):
    """Events of a bucket: an S3 notification with `Records`, an EventBridge event with `detail`, or
    a message of SNS that contains either of them or confirms a subscription.
    """

    model_config = ConfigDict(extra="allow")


class WarmUpIn(Fields):
    """Results of /ico that are made ahead of requests: each path with each of the parameters."""

    paths: Annotated[list[Text], Field(min_length=1, max_length=10_000)]
    """Keys of originals in the configured bucket or folder."""
    params: Annotated[list[Text], Field(min_length=1, max_length=100)]
    """Parameters or presets, as in a URL."""
