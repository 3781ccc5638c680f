"""Conditional and range requests (RFC 9110, sections 13 and 14). Pure functions of strings.

A malformed header is ignored where the RFC says so, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

_ETAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
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
    """Evaluate the conditions of a GET or HEAD in the order of RFC 9110, section 13.2.2."""
    if "If-Match" in headers:
        if not _matches(headers["If-Match"], etag, strong=True):
            return "failed"
    elif _is_modified_after(modified, headers.get("If-Unmodified-Since")):
        return "failed"
    if "If-None-Match" in headers:
        return "not-modified" if _matches(headers["If-None-Match"], etag) else "proceed"
    since = parse_http_date(headers.get("If-Modified-Since"))
    if since is not None and modified is not None and _without_microseconds(modified) <= since:
        return "not-modified"
    return "proceed"


def select_range(
    headers: Mapping[str, str], etag: str, modified: datetime | None, length: int
) -> ByteRange | Literal["unsatisfiable"] | None:
    """Return the requested range of a body of `length` bytes; None if the whole body is to be sent.

    Several ranges, unknown units and malformed ranges are ignored, as section 14.2 allows, so that
    no response is more work than the whole body.
    """
    match = _RANGE.fullmatch(headers.get("Range", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if "If-Range" in headers and not _if_range_holds(headers["If-Range"], etag, modified):
        return None
    if not match[1]:
        start, stop = max(0, length - int(match[2])), length
    else:
        start = int(match[1])
        stop = min(length, int(match[2]) + 1) if match[2] else length
        if match[2] and int(match[2]) < start:
            return None
    return ByteRange(start, stop) if start < stop else "unsatisfiable"


def parse_http_date(text: str | None) -> datetime | None:
    """Return the time that an HTTP date names; None if it is malformed."""
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
    return any(tag == etag and not (strong and weak) for weak, tag in _ETAG.findall(field))


def _is_modified_after(modified: datetime | None, field: str | None) -> bool:
    moment = parse_http_date(field)
    return moment is not None and modified is not None and _without_microseconds(modified) > moment


def _if_range_holds(field: str, etag: str, modified: datetime | None) -> bool:
    """Return True if If-Range holds: a strong ETag, or exactly the date of Last-Modified (section
    13.1.5).
    """
    if field.lstrip().startswith(('"', "W/")):
        return field.strip() == etag
    return modified is not None and parse_http_date(field) == _without_microseconds(modified)


def _without_microseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
