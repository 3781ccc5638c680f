"""What a request's header block means for an answer from memory: read once, strictly, and
remembered per connection.

Only what is certain is answered fast: a block of unusual shape or with a header that could change
the answer has no profile, and its request goes the ordinary way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import InvalidInput
from orchestrator.web.public_address import FORWARDED, PublicAddressResolver
from orchestrator.web.responses import variant

MAX_BLOCK = 4096
VERSION_LINE = b" HTTP/1.1\r\n"
_HEADER = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*\r\n"
_BLOCK = re.compile(b"(?:" + _HEADER + b"){1,64}\r\n")
REQUEST_IDS = ("x-request-id", "x-correlation-id")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A request id we take over from whoever asks; anything else gets one of ours."""

_FRAMING = {"content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"}
_CHOOSING = {"authorization", "range", "if-match", "if-range", "if-unmodified-since"}
_UNUSUAL = _FRAMING | _CHOOSING


@dataclass(frozen=True, slots=True)
class HeaderProfile:
    """Everything of a header block that an answer from memory depends on."""

    base: str
    """The site's base URL."""
    variant: str
    request_id: bytes
    """The client's own, or b"" for one of ours."""
    none_match: str
    """If-None-Match as it was sent, or ""."""
    is_plain: bool
    """Neither of the two: what memory has is sent as it is."""


def parse_header_profile(
    block: bytes, addresses: PublicAddressResolver, peer: object, cookie: str
) -> HeaderProfile | None:
    """The profile of `block`, which begins after the request line; None where there must be none.

    `cookie` names the cookie that carries rights.
    """
    if len(block) > MAX_BLOCK or _BLOCK.fullmatch(block) is None:
        return None
    fields: dict[str, str] = {}
    for line in block[:-4].decode("ascii").split("\r\n"):
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _UNUSUAL or (name == "host" and name in fields):
            return None
        value = value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    if not _ordinary(fields, cookie):
        return None
    return _profile(fields, addresses, addresses.trusts_peer(peer))


def _ordinary(fields: dict[str, str], cookie: str) -> bool:
    if fields.get("connection", "keep-alive").lower() != "keep-alive":
        return False
    if "if-modified-since" in fields and "if-none-match" not in fields:
        return False
    return cookie not in fields.get("cookie", "")


def _profile(
    fields: dict[str, str], addresses: PublicAddressResolver, trusted: bool
) -> HeaderProfile | None:
    forwarded = {name: fields.get(name.lower(), "") for name in FORWARDED} if trusted else {}
    try:
        address = addresses.resolve_host(fields.get("host", ""), forwarded, trusted)
    except InvalidInput:
        return None
    request_id = client_request_id(fields).encode()
    none_match = fields.get("if-none-match", "")
    return HeaderProfile(
        base=address.base,
        variant=variant(fields.get("accept", ""), fields.get("accept-encoding", "")),
        request_id=request_id,
        none_match=none_match,
        is_plain=not (request_id or none_match),
    )


def client_request_id(fields: Mapping[str, str]) -> str:
    """The id a client gave its request (field names in lower case, or of any case in a mapping that
    does not tell them apart); "" where there is none or it is not sane.
    """
    given = next((fields[name] for name in REQUEST_IDS if name in fields), "")
    return given if REQUEST_ID.fullmatch(given) else ""
