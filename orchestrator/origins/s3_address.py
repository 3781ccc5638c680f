"""Every spelling of the address of an object in an S3 bucket. Pure.

Keys are percent-decoded. In http(s) addresses the query (for instance a signature) is not part of
the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from orchestrator.errors import InvalidInput

LINK_SCHEME = "s3://"
LINK_SHAPE = "s3://[region/]bucket/key"
_REGION = r"[a-z]{2,}(?:-[a-z]+)+-\d+"
_BUCKET = r"[a-z0-9A-Z][a-z0-9A-Z._-]{1,254}"
_AWS = r"\.amazonaws\.com(?:\.cn)?"
_PATH_HOST = re.compile(rf"s3(?:[.-](?:dualstack\.)?(?P<region>{_REGION}))?{_AWS}")
_BUCKET_HOST = re.compile(
    rf"(?P<bucket>{_BUCKET})\.s3(?:[.-](?:dualstack\.)?(?P<region>{_REGION}))?{_AWS}"
)
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class BucketObject:
    """One object. `region` passes `is_region`, or is "" when the address has none."""

    bucket: str
    key: str
    region: str = ""

    def location(self) -> str:
        """Return its canonical address, which `parse_address` reads."""
        region = f"{self.region}/" if self.region else ""
        return f"{LINK_SCHEME}{region}{self.bucket}/{quote(self.key)}"


def parse_address(address: str, endpoint: str = "") -> BucketObject:
    """Parse any of the spellings, and `{endpoint}/bucket/key` if an endpoint is given.

    Raises InvalidInput for any other address.
    """
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
    except ValueError as error:
        raise _malformed() from error
    scheme = parts.scheme.lower()
    if scheme == "s3":
        rest = address[len(LINK_SCHEME) :].partition("?")[0]
        return _parse_path(rest, qualified=True)
    if scheme not in ("http", "https"):
        raise _malformed()
    if endpoint and address.lower().startswith(endpoint.rstrip("/").lower() + "/"):
        rest = address[len(endpoint.rstrip("/")) + 1 :]
        return _parse_path(re.split(r"[?#]", rest, maxsplit=1)[0])
    if match := _PATH_HOST.fullmatch(host):
        return _parse_path(parts.path.removeprefix("/"), region=match["region"] or "")
    if match := _BUCKET_HOST.fullmatch(host):
        return _bucket_object(match["bucket"], parts.path.removeprefix("/"), match["region"] or "")
    raise _malformed()


def is_region(name: str) -> bool:
    """Return whether a region is spelt as AWS spells its own.

    Only such a region can be part of an address: the region of another service (`auto`, `fr-par`)
    would read as a bucket.
    """
    return re.fullmatch(_REGION, name) is not None


def parse_link(address: str) -> BucketObject:
    """Parse `s3://[region/]bucket/key`. Raises InvalidInput."""
    if not address.startswith(LINK_SCHEME):
        raise _malformed()
    return parse_address(address)


def _parse_path(path: str, *, region: str = "", qualified: bool = False) -> BucketObject:
    first, _, rest = path.partition("/")
    if qualified and is_region(first) and re.match(r"[^/]+/.", rest, re.DOTALL):
        region, (first, _, rest) = first, rest.partition("/")
    return _bucket_object(first, rest, region)


def _bucket_object(bucket: str, quoted: str, region: str) -> BucketObject:
    key = unquote(quoted, errors="surrogateescape")
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise _malformed() from None
    if not re.fullmatch(_BUCKET, bucket) or not 0 < length <= MAX_KEY_BYTES or "\0" in key:
        raise _malformed()
    if any(segment in (".", "..") for segment in key.split("/")):
        raise _malformed()  # a server that maps keys to paths would read another file
    return BucketObject(bucket, key, region)


def _malformed() -> InvalidInput:
    return InvalidInput(
        f"The address does not name an object in a bucket. Use {LINK_SHAPE} "
        "or https://bucket.s3.region.amazonaws.com/key."
    )
