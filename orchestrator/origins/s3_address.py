"""Every spelling of an object in somebody's S3 bucket (`reference/engine.md` 7.5). Pure.

Keys are percent-decoded. In web addresses what follows a question mark (a signature, say) is no
part of the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from orchestrator.errors import InvalidInput

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
    """One object; `region` is one by `is_region`, or "" where the address does not say."""

    bucket: str
    key: str
    region: str = ""

    def location(self) -> str:
        """The one spelling of it, which `parse` reads."""
        region = f"{self.region}/" if self.region else ""
        return f"s3://{region}{self.bucket}/{quote(self.key)}"


def parse(address: str, endpoint: str = "") -> BucketObject:
    """Read any of the spellings, and `{endpoint}/bucket/key` where there is an endpoint.

    Raises InvalidInput for anything else.
    """
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
    except ValueError as error:
        raise _not_one() from error
    scheme = parts.scheme.lower()
    if scheme == "s3":
        rest = address[len("s3://") :].partition("?")[0]
        return _of_path(rest, qualified=True)
    if scheme not in ("http", "https"):
        raise _not_one()
    if endpoint and address.lower().startswith(endpoint.rstrip("/").lower() + "/"):
        rest = address[len(endpoint.rstrip("/")) + 1 :]
        return _of_path(re.split(r"[?#]", rest, maxsplit=1)[0])
    if match := _PATH_HOST.fullmatch(host):
        return _of_path(parts.path.removeprefix("/"), region=match["region"] or "")
    if match := _BUCKET_HOST.fullmatch(host):
        return _checked(match["bucket"], parts.path.removeprefix("/"), match["region"] or "")
    raise _not_one()


def is_region(name: str) -> bool:
    """Tell whether a region is spelt as AWS spells its own; only such a one can stand in an
    address, where another service's (`auto`, `fr-par`) would read as a bucket.
    """
    return re.fullmatch(_REGION, name) is not None


def parse_link(address: str) -> BucketObject:
    """Read `s3://[region/]bucket/key`. Raises InvalidInput."""
    if not address.startswith("s3://"):
        raise _not_one()
    return parse(address)


def _of_path(path: str, *, region: str = "", qualified: bool = False) -> BucketObject:
    first, _, rest = path.partition("/")
    if qualified and is_region(first) and re.match(r"[^/]+/.", rest, re.DOTALL):
        region, (first, _, rest) = first, rest.partition("/")
    return _checked(first, rest, region)


def _checked(bucket: str, quoted: str, region: str) -> BucketObject:
    key = unquote(quoted, errors="surrogateescape")
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise _not_one() from None
    if not re.fullmatch(_BUCKET, bucket) or not 0 < length <= MAX_KEY_BYTES or "\0" in key:
        raise _not_one()
    if any(segment in (".", "..") for segment in key.split("/")):
        raise _not_one()  # a server that takes keys for paths would look elsewhere
    return BucketObject(bucket, key, region)


def _not_one() -> InvalidInput:
    return InvalidInput(
        f"This is no address of an object in a bucket; write {LINK_SHAPE} "
        "or https://bucket.s3.region.amazonaws.com/key."
    )
