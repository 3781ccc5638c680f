"""What the API takes: bodies and queries, which ignore what they do not know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from orchestrator.catalog.jobs import State
from orchestrator.ingest.payload.fields import Body, Fields, Text, whole_number

_MOST = 2**62

Whole = Annotated[int, BeforeValidator(whole_number)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(whole_number)]


class Paged(Fields):
    """Which page."""

    limit: Limit = 100
    """At most so many."""


class AfterQuery(Paged):
    """Which page of a list by name."""

    after: Text = ""
    """Begin behind this name."""


class BeforeQuery(Paged):
    """Which page of a list by age."""

    before: Annotated[int, Field(ge=1, le=_MOST), BeforeValidator(whole_number)] | None = None
    """Begin behind this number."""


class BatchesQuery(BeforeQuery):
    """Which batches."""

    state: Literal["active", "finished"] | None = None
    """Only unfinished ones, or only finished ones."""


class JobsQuery(BeforeQuery):
    """Which jobs."""

    state: State | None = None
    batch: Annotated[int, Field(ge=1, le=_MOST), BeforeValidator(whole_number)] | None = None
    image: Text | None = None
    """`customer/space/name`."""
    customer: Annotated[int, Field(ge=1, le=999_999_999), BeforeValidator(whole_number)] | None = (
        None
    )


class PreviewQuery(Fields):
    """A picture's size."""

    width: Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole_number)]
    """Pixels."""
    height: Annotated[int, Field(ge=1, le=10_000_000), BeforeValidator(whole_number)]
    """Pixels."""


class StrategyIn(Fields):
    """An origin strategy."""

    regex: Annotated[str, Field(min_length=1, max_length=1000)]
    """Found anywhere in the origin, in any case."""
    strategy: Text
    """basic-http-auth, s3, s3-ambient, s3-public, sftp, ftp, file or default."""
    credentials: str | dict[str, Any] | None = None
    """A JSON object, or a link `s3://region/bucket/key`; left out or `xxx` keeps those there
    are.
    """
    optimised: bool = False
    """It is read from where it is by the policy use-original, not copied."""
    place: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole_number)] = 0
    """Lower places are tried first."""


class StrategyPatch(Fields):
    """What is to be changed of an origin strategy."""

    regex: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    strategy: Text | None = None
    credentials: str | dict[str, Any] | None = None
    optimised: bool | None = None
    place: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(whole_number)] | None = None


class OriginTest(Fields):
    """An origin to try."""

    origin: Annotated[str, Field(min_length=1, max_length=4000)]


class OptimisationIn(Fields):
    """How originals are made tile-ready."""

    format: Literal["jpeg2000", "tiff", "original"]
    """`original`: nothing is made."""
    quality: Whole | None = None
    """1 to 100."""
    psnr: Whole | None = None
    """JPEG2000 only, instead of quality: decibels."""
    lossless: bool | None = None
    tile: Whole | None = None
    """Tile edge in pixels."""


class ThumbnailIn(Fields):
    """Which thumbnails are made."""

    sizes: Annotated[list[int | str], Field(min_length=1, max_length=32)]
    """Longest edges in pixels, or IIIF sizes such as `!400,400` and `200,`."""


class StorageIn(Fields):
    """A customer's limits; null or left out: none."""

    maximum_number_of_stored_images: (
        Annotated[int, Field(ge=0, le=_MOST), BeforeValidator(whole_number)] | None
    ) = None
    maximum_total_size_of_stored_images: (
        Annotated[int, Field(ge=0, le=_MOST), BeforeValidator(whole_number)] | None
    ) = None
    """Bytes: sources, originals and thumbnails."""


class BatchIn(Fields):
    """Images to be taken in together."""

    member: Annotated[list[Body], Field(min_length=1)]
    """`members` and `images` are understood, too, and so is a plain list."""
