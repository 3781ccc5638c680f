"""Receiving an origin's bytes into a scratch file: counted, capped, hashed and looked at while they
come.

Every kind of origin ends here, so that none can be larger than allowed or be a web page instead of
a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from orchestrator.errors import NoRoom, NotAnImage, OriginUnavailable, TooLarge

CHUNK_BYTES = 256 * 1024
_HEAD_BYTES = 1024
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")


@dataclass(frozen=True, slots=True)
class Received:
    """What came: number of bytes and their SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


async def receive(
    chunks: AsyncIterator[bytes], target: Path, *, max_bytes: int, expected: int | None = None
) -> Received:
    """Write `chunks` to the file `target`.

    Raises TooLarge over `max_bytes` (as soon as it is known), NotAnImage when the beginning is
    plainly not a picture, OriginUnavailable when not exactly `expected` bytes came. The file is
    then left to the scratch folder.
    """
    if expected is not None and expected > max_bytes:
        raise _too_large(max_bytes)
    digest = hashlib.sha256()
    count = 0
    head = b""
    async with aiofiles.open(target, "wb") as file:
        async for chunk in chunks:
            count += len(chunk)
            if count > max_bytes:
                raise _too_large(max_bytes)
            if len(head) < _HEAD_BYTES:
                head += chunk[:_HEAD_BYTES]
                if len(head) >= _HEAD_BYTES:
                    refuse_other_than_picture(head)
            digest.update(chunk)
            try:
                await file.write(chunk)
            except OSError as error:
                raise NoRoom("There is not enough free disk space to take a picture in.") from error
    refuse_other_than_picture(head)
    if expected is not None and count != expected:
        raise OriginUnavailable(f"The origin announced {expected} bytes and sent {count}.")
    return Received(count, digest.hexdigest())


async def first_bytes(
    chunks: AsyncIterator[bytes], max_bytes: int, expected: int | None = None
) -> bytes:
    """The beginning of what `receive` would write; raises as it does where that already tells."""
    if expected is not None and expected > max_bytes:
        raise _too_large(max_bytes)
    head = b""
    async for chunk in chunks:
        head += chunk[:_HEAD_BYTES]
        if len(head) >= _HEAD_BYTES:
            break
    refuse_other_than_picture(head)
    return head


def refuse_other_than_picture(head: bytes) -> None:
    """Raise NotAnImage when a file that begins with `head` is empty, a web page or JSON.

    Only what is certain is refused here, with a better sentence than a decoder could give.
    """
    if not head:
        raise NotAnImage("The origin sent nothing: the file is empty.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:_HEAD_BYTES].lower()
    if text.startswith(_HTML) or (text.startswith((b"<?xml", b"<!--")) and b"<html" in text):
        raise NotAnImage("The origin sent a web page (HTML), not a picture.")
    if text.startswith((b'{"', b"{\n", b"{ ", b"[{", b'["')):
        raise NotAnImage("The origin sent JSON, not a picture.")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The file is larger than the {max_bytes} bytes allowed (ingest.max_bytes).")
