"""The settings of uploads: where pictures are received, kept and published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from orchestrator.settings.field_types import Bytes, Count, Seconds, Section


class ResizingRule(Section):
    """A resized version of each uploaded picture."""

    suffix: str
    """What follows the name of the picture in the key of the version: `BI` for `1_2BI.jpg`."""
    convert: list[str]
    """Arguments of ImageMagick: `-resize` or `-thumbnail`, `-quality`, `-gravity`, `-extent`."""


_DEFAULT_RESIZING = [
    ResizingRule(suffix="BI", convert=["-resize", "1500x1500>", "-quality", "90"]),
    ResizingRule(suffix="MI", convert=["-resize", "400x400>", "-quality", "90"]),
    ResizingRule(
        suffix="SI",
        convert=[
            "-resize",
            "200x200^",
            "-gravity",
            "center",
            "-extent",
            "200x200",
            "-quality",
            "90",
        ],
    ),
]


class Uploads(Section):
    """Uploads: `ping`, `upload`, `publish`, `recrop`, `rotate`, `delete` and `active/{key}`. The
    routes exist only if `backend` and `secrets` are set.
    """

    backend: Literal["", "local", "s3"] = ""
    """Where pictures are kept: `local` needs `incoming_folder` and `active_folder`, `s3` needs
    `incoming_bucket` and `active_bucket`.
    """
    secrets: list[SecretStr] = []
    """Secrets of `publish`, `recrop`, `rotate` and `delete`. Each of them is valid, so that a
    secret can be replaced: add the new one, use it, remove the old one.
    """
    route_prefix: str = "/"
    """Path below which the routes are."""
    temp_folder: str = ""
    """Folder for pictures that are being received or changed; when empty, the scratch space below
    the data directory.
    """
    incoming_folder: str = ""
    """Folder of pictures that are not published."""
    active_folder: str = ""
    """Folder of published pictures."""
    incoming_bucket: str = ""
    """Bucket of pictures that are not published. Anonymous clients must not read it."""
    incoming_endpoint: str = ""
    """Address of its S3-compatible server; when empty, the Amazon endpoint of the region."""
    incoming_region: str = "us-east-1"
    """Region of the bucket."""
    incoming_access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    incoming_secret_key: SecretStr = SecretStr("")
    """Secret access key."""
    active_bucket: str = ""
    """Bucket of published pictures."""
    active_endpoint: str = ""
    """Address of its S3-compatible server; when empty, the Amazon endpoint of the region."""
    active_region: str = "us-east-1"
    """Region of the bucket."""
    active_access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    active_secret_key: SecretStr = SecretStr("")
    """Secret access key."""
    signature_version: Literal["", "s3v4", "s3"] = ""
    """Signature of requests to both buckets: `s3v4`, or `s3` (version 2) for old services."""
    customer: Count = 1
    """Customer to whom published pictures belong as IIIF images. It must exist."""
    space: Count = 1
    """Space of published pictures."""
    optimisation_policy: str = "fastest"
    """Optimisation policy of published pictures."""
    resizing: list[ResizingRule] = _DEFAULT_RESIZING
    """Resized versions of each picture: a suffix, and the arguments of ImageMagick that make it."""
    background_formats: list[Literal["webp", "avif"]] = []
    """Formats in which the versions of a published picture are made, too, in the background. A
    client whose Accept header has such a format gets it.
    """
    formats: list[Literal["webp", "avif", "heic", "tiff"]] = []
    """Formats that are accepted besides JPEG, PNG, GIF and SVG. The versions of such pictures are
    JPEG.
    """
    svg: Literal["sanitise", "inert"] = "sanitise"
    """`sanitise` removes everything from an uploaded SVG that is not a drawing; `inert` keeps the
    file. Both are served so that browsers run no script of it.
    """
    auto_orient_original: bool = False
    """Read for compatibility. Versions are always upright. An original is never encoded again: it
    keeps its bytes, and browsers turn it by its EXIF orientation, with either value.
    """
    strip_originals: bool = False
    """Remove metadata, among it the place where a picture was taken, from the stored original
    without changing its pixels; pictures in HEIC, AVIF and TIFF are refused then. Versions never
    have metadata.
    """
    cache_control: str = "public, max-age=3600"
    """Cache-Control of published pictures, and of the objects in the bucket."""
    expire_after_s: Seconds = 7200
    """A picture that is not published within this time is deleted."""
    max_bytes: Bytes = 100 * 1000**2
    """Largest picture in bytes; larger ones are answered 413."""
    max_pixels: Count = 100_000_000
    """Largest picture in pixels; larger ones are answered 413."""
    max_frames: Count = 500
    """Most frames of a picture; more are answered 413."""
    receive_timeout_s: Seconds = 600
    """Time in which an upload must have arrived; after that it is answered 408."""
    pause_timeout_s: Seconds = 30
    """Longest pause between two parts of an upload; after that it is answered 408."""
    max_uploads: Count = 128
    """Uploads in progress in each process; more are answered 503."""
    allowed_origins: list[str] = []
    """Web sites whose scripts may upload and publish, such as `https://www.example.org`; when
    empty, all. Requests without an Origin header are not limited.
    """
    token_secrets: list[SecretStr] = []
    """Secrets of upload tokens, of 32 characters at least. If there is one, only a client with a
    valid token may upload. Each secret is valid, so that one can be replaced; the last one signs
    the tokens of `orchestrator uploads token`.
    """
    rate_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Uploads that a client address may begin in a minute; more are answered 429. Each process
    counts by itself. 0 means no limit.
    """
    partial_quota: Bytes = 10 * 1000**3
    """Bytes that all unfinished resumable uploads (tus) of this host may have; more are answered
    503. They are kept below `temp_folder`.
    """
    v5_database: SecretStr = SecretStr("")
    """Address of the database of the replaced system, as `postgresql://user@host/name`, for
    `orchestrator uploads migrate`.
    """

    @property
    def enabled(self) -> bool:
        """True if the routes exist."""
        return bool(self.backend and self.secrets)
