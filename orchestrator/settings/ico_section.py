"""The settings of pictures that are shaped by their URL (`/ico`)."""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr

from orchestrator.settings.field_types import Bytes, Count, Seconds, Section


class IcoBucket(Section):
    """A bucket that clients may choose with the headers `X-S3-Region` and `X-S3-Bucket`."""

    region: str
    """Value of `X-S3-Region`, and the region of the bucket."""
    bucket: str
    """Value of `X-S3-Bucket`: the name of the bucket."""
    endpoint: str = ""
    """Address of an S3-compatible server; when empty, the Amazon endpoint of the region."""
    access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    secret_key: SecretStr = SecretStr("")
    """Secret access key."""


class Ico(Section):
    """Pictures shaped by their URL (`/ico/{params}/{path}`). The routes exist only if `open`,
    `secrets`, `presets` or `allowed` is set.
    """

    open: bool = False
    """Anyone may request any parameters. Only for development: each set of parameters costs a
    decode and disk space.
    """
    secrets: list[SecretStr] = []
    """Secrets of signed URLs. A signature by any of them is valid, so that a secret can be
    replaced: add the new one, sign with it, remove the old one.
    """
    presets: dict[str, str] = {}
    """Names that replace the parameters in a URL and need no signature: `{thumb =
    "width=200,height=200,crop=center"}`.
    """
    allowed: list[str] = []
    """Parameters that need no signature: `["width=500", "width=1000"]`. Equivalent spellings are
    allowed, too.
    """
    purge_secrets: list[SecretStr] = []
    """Secrets of `DELETE /ico/{path}`; when empty, the method is not allowed."""
    bucket: str = ""
    """Bucket of the originals. Results are stored in it, too."""
    region: str = "us-east-1"
    """Region of the bucket."""
    endpoint: str = ""
    """Address of an S3-compatible server; when empty, the Amazon endpoint of the region."""
    access_key: SecretStr = SecretStr("")
    """Access key id; when empty, the credentials of the machine's role are used."""
    secret_key: SecretStr = SecretStr("")
    """Secret access key."""
    folder: str = ""
    """Folder of the originals, instead of a bucket. Results are stored in it, too."""
    buckets: list[IcoBucket] = []
    """Buckets that clients may choose with `X-S3-Region` and `X-S3-Bucket`: `{region =
    "eu-west-1", bucket = "press", access_key = "...", secret_key = "..."}`. Any other pair is
    answered 403.
    """
    quota: Bytes = 0
    """Part of `cache.derivatives_quota` for the results of buckets and folders; 0 means no limit of
    their own. The name of this share in `cache.shares` is `ico`.
    """
    recheck_s: Seconds = 10
    """A replaced original may be answered from old results for this time; 0 compares the original
    at each request, and keeps no answer in memory.
    """
    negotiate: bool = False
    """Answer in AVIF or WebP if the Accept header has it and the parameters name no format."""
    focus_order: Literal["whxy", "xywh"] = "whxy"
    """Order of the numbers of `focus`: width, height, x, y, or x, y, width, height."""
    strict: bool = True
    """Refuse parameters that occur twice; otherwise the last one counts."""
    max_bytes: Bytes = 100 * 1000**2
    """Largest original in bytes; larger ones are answered 413."""
    max_pixels: Count = 100_000_000
    """Largest original in pixels; larger ones are answered 413."""
    max_frames: Count = 500
    """Most frames of an original; more are answered 413."""
    cache_control: str = "no-transform, public, max-age=86400, s-maxage=2592000"
    """Cache-Control of results, and of the objects that are stored in a bucket. A signed URL that
    expires earlier shortens both times.
    """

    @property
    def enabled(self) -> bool:
        """True if there is something that a client may request."""
        return bool(self.open or self.secrets or self.presets or self.allowed)
