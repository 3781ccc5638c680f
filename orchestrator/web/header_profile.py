"""The profile of a header block: everything in it that an answer from memory depends on. It is
parsed strictly, once for each connection and block.

A block of an unusual form, or with a header that could change the answer in another way, has no
profile; aiohttp and the handlers then answer the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import InvalidInput
from orchestrator.web.public_address import FORWARDED, PublicAddress, PublicAddressResolver
from orchestrator.web.responses import negotiation_variant

MAX_BLOCK = 4096
VERSION_LINE = b" HTTP/1.1\r\n"
_HEADER = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*\r\n"
_BLOCK = re.compile(b"(?:" + _HEADER + b"){1,64}\r\n")
REQUEST_IDS = ("x-request-id", "x-correlation-id")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A request id that we accept from a client; other requests get an id of ours."""

_FRAMING_HEADERS = {"content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"}
_SELECTING_HEADERS = {"authorization", "range", "if-match", "if-range", "if-unmodified-since"}
_SELECTING_HEADERS |= {"x-s3-region", "x-s3-bucket"}  # they choose the bucket of /ico
_EXCLUDED_HEADERS = _FRAMING_HEADERS | _SELECTING_HEADERS


@dataclass(frozen=True, slots=True)
class HeaderProfile:
    """Everything in a header block that an answer from memory depends on."""

    address: PublicAddress
    """The public address of the request."""
    base: str
    """Its base URL."""
    variant: str
    request_id: bytes
    """The id that the client sent; b"" for an id of ours."""
    none_match: str
    """The value of If-None-Match, or ""."""
    is_plain: bool
    """True if the request has neither: the entry in memory is sent as it is."""


def parse_header_profile(
    block: bytes, addresses: PublicAddressResolver, peer: object, cookie: str
) -> HeaderProfile | None:
    """Return the profile of `block`, which begins after the request line; None if the request must
    not be answered from memory.

    `cookie` is the name of the cookie that carries rights.
    """
    if len(block) > MAX_BLOCK or _BLOCK.fullmatch(block) is None:
        return None
    fields: dict[str, str] = {}
    for line in block[:-4].decode("ascii").split("\r\n"):
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _EXCLUDED_HEADERS or (name == "host" and name in fields):
            return None
        value = value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    if not _allows_hot_answer(fields, cookie):
        return None
    return _build_profile(fields, addresses, addresses.trusts_peer(peer))


def _allows_hot_answer(fields: dict[str, str], cookie: str) -> bool:
    if fields.get("connection", "keep-alive").lower() != "keep-alive":
        return False
    if "if-modified-since" in fields and "if-none-match" not in fields:
        return False
    return cookie not in fields.get("cookie", "")


def _build_profile(
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
        address=address,
        base=address.base,
        variant=negotiation_variant(fields.get("accept", ""), fields.get("accept-encoding", "")),
        request_id=request_id,
        none_match=none_match,
        is_plain=not (request_id or none_match),
    )


def client_request_id(fields: Mapping[str, str]) -> str:
    """Return the request id that the client sent, or "" if it sent none or one of a form that we do
    not accept. `fields` has lower-case names, or ignores case.
    """
    request_id = next((fields[name] for name in REQUEST_IDS if name in fields), "")
    return request_id if REQUEST_ID.fullmatch(request_id) else ""
