"""Conditional and range requests, decided on strings alone (RFC 9110, sections 13 and 14).

Pure. What cannot be understood is ignored where the RFC says so, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)

ConditionResult = Literal["proceed", "not-modified", "failed"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int


def evaluate_conditions(
    headers: Mapping[str, str], etag: str, modified: datetime | None
) -> ConditionResult:
    """What the conditions of a GET or HEAD come to, in the order of RFC 9110, section 13.2.2."""
    if "If-Match" in headers:
        if not _matches(headers["If-Match"], etag, strong=True):
            return "failed"
    elif _is_after(modified, headers.get("If-Unmodified-Since")):
        return "failed"
    if "If-None-Match" in headers:
        return "not-modified" if _matches(headers["If-None-Match"], etag) else "proceed"
    since = parse_http_date(headers.get("If-Modified-Since"))
    if since is not None and modified is not None and _seconds(modified) <= since:
        return "not-modified"
    return "proceed"


def select_range(
    headers: Mapping[str, str], etag: str, modified: datetime | None, length: int
) -> ByteRange | Literal["unsatisfiable"] | None:
    """The one range of `length` bytes asked for; None where the whole is to be sent.

    Several ranges, unknown units and nonsense are ignored, as section 14.2 allows: no answer is
    ever more work than the whole.
    """
    found = _RANGE.fullmatch(headers.get("Range", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if "If-Range" in headers and not _unchanged(headers["If-Range"], etag, modified):
        return None
    if not found[1]:
        start, stop = max(0, length - int(found[2])), length
    else:
        start = int(found[1])
        stop = min(length, int(found[2]) + 1) if found[2] else length
        if found[2] and int(found[2]) < start:
            return None
    return ByteRange(start, stop) if start < stop else "unsatisfiable"


def parse_http_date(text: str | None) -> datetime | None:
    """The moment an HTTP date names; None for what is none."""
    if not text or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _matches(field: str, etag: str, *, strong: bool = False) -> bool:
    if field.strip() == "*":
        return True
    return any(tag == etag and not (strong and weak) for weak, tag in _TAG.findall(field))


def _is_after(modified: datetime | None, field: str | None) -> bool:
    moment = parse_http_date(field)
    return moment is not None and modified is not None and _seconds(modified) > moment


def _unchanged(field: str, etag: str, modified: datetime | None) -> bool:
    """If-Range: a strong tag, or the very date of Last-Modified (section 13.1.5)."""
    if field.lstrip().startswith(('"', "W/")):
        return field.strip() == etag
    return modified is not None and parse_http_date(field) == _seconds(modified)


def _seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
