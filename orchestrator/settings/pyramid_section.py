"""The settings of pyramid TIFFs that are made of the pictures in a bucket."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.field_types import Section

Pixels = Annotated[int, Field(ge=0, le=1_000_000)]


class BucketLogin(Section):
    """Server and keys of one bucket of pyramids, its originals or notes."""

    endpoint: str = ""
    """Address of an S3-compatible server; when empty, Amazon's."""
    region: str = "us-east-1"
    """Region of the bucket."""
    access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    secret_key: SecretStr = SecretStr("")
    """Secret access key."""


class Pyramids(Section):
    """Pyramid TIFFs made by the `pyramid` commands and of the pictures in a bucket. Zero or empty
    means: as the policy says.
    """

    policy: Literal["default", "parity"] = "default"
    """`default`: full size, tiles of 256 pixels, JPEG of quality 90. `parity`: at most 4000 x 4000
    pixels, tiles of 512 pixels, deflate, 11.812 pixels per millimetre, only the first page of a PDF
    at 72 dpi.
    """
    tile: Literal[0, 128, 256, 512, 1024] = 0
    """Edge of a tile in pixels."""
    compression: Literal["", "deflate", "jpeg", "webp", "zstd"] = ""
    """Compression of the tiles. Pictures with transparency are never compressed as JPEG, but by
    deflate.
    """
    quality: Annotated[int, Field(ge=0, le=100)] = 0
    """Quality of JPEG and WebP tiles."""
    lossless: bool = False
    """Keep 16 bits (deflate and zstd), and compress WebP tiles without loss. Instead of JPEG,
    deflate is used.
    """
    resolution: Annotated[float, Field(ge=0)] = 0
    """Resolution to record, in pixels per millimetre. The default policy keeps that of the
    original.
    """
    max_width: Pixels = 0
    """Largest width; larger pictures are reduced."""
    max_height: Pixels = 0
    """Largest height; larger pictures are reduced."""
    copyright_max_width: Pixels = 0
    """Largest width of a picture under copyright (`parity`: 843)."""
    copyright_max_height: Pixels = 0
    """Largest height of a picture under copyright (`parity`: 560)."""
    autorotate: bool = True
    """Store pictures upright; otherwise as they are, with their EXIF orientation."""
    srgb: bool = True
    """Convert colours to sRGB; otherwise they are kept, with their profile."""
    bigtiff: Literal["auto", "always"] = "auto"
    """Write BigTIFF: where a classic TIFF could become too small, or always."""
    subifd: bool = False
    """Store the smaller levels as sub-directories (SubIFD) of the picture, not as pages."""
    pdf_dpi: Annotated[int, Field(ge=0, le=2400)] = 0
    """Resolution in dots per inch at which the pages of a PDF are drawn (`default`: 150)."""

    source_bucket: str = ""
    """Bucket of the originals (`RBSC_BUCKET`)."""
    process_bucket: str = ""
    """Bucket of the notes that `pyramid import-docs` reads (`PROCESS_BUCKET`)."""
    image_bucket: str = ""
    """Bucket in which pyramids are stored (`IMAGE_BUCKET`). Events make pyramids only if this and
    `source_bucket` are set.
    """
    image_prefix: str = ""
    """Begin of the keys of pyramids. Needed if the source and the image bucket are the same; events
    of keys that begin so are ignored then.
    """
    endpoint: str = ""
    """Address of the S3-compatible server of the buckets; when empty, Amazon's."""
    region: str = "us-east-1"
    """Region of the buckets."""
    access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    secret_key: SecretStr = SecretStr("")
    """Secret access key."""
    logins: dict[Literal["source", "process", "image"], BucketLogin] = {}
    """Server and keys of a bucket that has others than the rest: `{image = {endpoint = "...",
    access_key = "...", secret_key = "..."}}`.
    """
    prefixes: list[str] = []
    """Events of keys that begin with none of these are ignored; when empty, all are used."""
    extensions: list[str] = []
    """Events of files without one of these extensions are ignored (`["jpg", "tif", "pdf"]`); when
    empty, all are used. Files whose name begins with a dot are ignored always.
    """

    customer: Annotated[int, Field(ge=1)] = 1
    """Customer of the assets that serve the pyramids."""
    space: Annotated[int, Field(ge=0)] = 1
    """Space of these assets. Their name is the key of the pyramid without `.tif`."""
    write_notes: bool = False
    """Write a note into the process bucket for each event. It is deleted when the pyramid is
    stored.
    """
    notes_prefix: str = "rbsc/"
    """Begin of the keys of notes in the process bucket."""
    schedule: str = ""
    """When the window opens in which pyramids are made, as a cron expression: `30 5 * * *`. When
    empty, they are made at once.
    """
    time_zone: str = "UTC"
    """Time zone of the schedule, such as `America/New_York`."""
    window_s: Annotated[float, Field(gt=0)] = 14_400
    """How long a window stays open. What is running then is finished; the rest waits for the next
    window.
    """
    max_threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Pyramids that each instance makes at once (`MAX_THREADS`); 0 means as many as `jobs.workers`.
    """
    sqs_queue: str = ""
    """Name or address of an SQS queue that receives events of the source bucket, directly, through
    SNS or from EventBridge. Server and keys are those of `jobs.sqs_*`.
    """
    sns_topics: list[str] = []
    """ARNs of the SNS topics whose signed messages `POST /events/s3` accepts and whose
    subscriptions it confirms.
    """
    event_secret: SecretStr = SecretStr("")
    """Secret that `POST /events/s3` accepts as a bearer token or as the password of Basic
    authentication, besides API keys.
    """

    @property
    def has_buckets(self) -> bool:
        """True if events of a bucket make pyramids."""
        return bool(self.source_bucket and self.image_bucket)
