"""Receives an origin's bytes into a scratch file: counted, limited, hashed and checked on the way.

Every kind of origin uses this module, so that no file can be larger than allowed, or be a web page
instead of an image.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from orchestrator.errors import NoRoom, NotAnImage, OriginUnavailable, TooLarge

CHUNK_BYTES = 256 * 1024
_HEAD_BYTES = 1024
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")


@dataclass(frozen=True, slots=True)
class ByteSummary:
    """The number of bytes received, and their SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LowestRate:
    """The rate that an origin must reach: so many bytes in each window of so many seconds."""

    bytes: int = 0
    window_s: float = 30


async def receive(
    chunks: AsyncIterator[bytes],
    target: Path,
    *,
    max_bytes: int,
    expected: int | None = None,
    lowest_rate: LowestRate | None = None,
) -> ByteSummary:
    """Write `chunks` to the file `target`.

    Raises OriginUnavailable (origin_timeout) below the `lowest_rate`; TooLarge over `max_bytes`, as
    soon as it is known; NotAnImage when the first bytes are certainly not an image;
    OriginUnavailable when the number of bytes is not `expected`. After an error the file remains;
    the scratch folder removes it.
    """
    if expected is not None and expected > max_bytes:
        raise too_large(max_bytes)
    digest = hashlib.sha256()
    count = 0
    head = b""
    async with aiofiles.open(target, "wb") as file:
        async for chunk in _in_time(chunks, lowest_rate):
            count += len(chunk)
            if count > max_bytes:
                raise too_large(max_bytes)
            if len(head) < _HEAD_BYTES:
                head += chunk[:_HEAD_BYTES]
                if len(head) >= _HEAD_BYTES:
                    check_head(head)
            digest.update(chunk)
            try:
                await file.write(chunk)
            except OSError as error:
                raise NoRoom("There is not enough free disk space to ingest the image.") from error
    check_head(head)
    if expected is not None and count != expected:
        raise OriginUnavailable(
            f"The origin announced {expected} bytes and sent {count}. Try again later."
        )
    return ByteSummary(count, digest.hexdigest())


async def _in_time(
    chunks: AsyncIterator[bytes], lowest_rate: LowestRate | None
) -> AsyncIterator[bytes]:
    """Yield the chunks while they come fast enough. Only the wait for them is measured."""
    if lowest_rate is None or not lowest_rate.bytes:
        async for chunk in chunks:
            yield chunk
        return
    left_s, received = lowest_rate.window_s, 0
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(left_s) as limit:
                chunk = await anext(chunks, b"")
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise OriginUnavailable(
                f"The origin sent fewer than {lowest_rate.bytes} bytes in "
                f"{lowest_rate.window_s:g} s. Try again later.",
                code="origin_timeout",
            ) from error
        if not chunk:
            return
        yield chunk
        left_s -= time.monotonic() - began
        received += len(chunk)
        if received >= lowest_rate.bytes:
            left_s, received = lowest_rate.window_s, 0


async def receive_head(
    chunks: AsyncIterator[bytes], max_bytes: int, expected: int | None = None
) -> None:
    """Read the first bytes only, and raise what `receive` would raise because of them."""
    if expected is not None and expected > max_bytes:
        raise too_large(max_bytes)
    head = b""
    async for chunk in chunks:
        head += chunk[:_HEAD_BYTES]
        if len(head) >= _HEAD_BYTES:
            break
    check_head(head)


def check_head(head: bytes) -> None:
    """Raise NotAnImage when a file with these first bytes is empty, a web page or JSON.

    Only certain cases are refused here, because the message is clearer than a decoder's.
    """
    if not head:
        raise NotAnImage("The origin sent an empty file.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:_HEAD_BYTES].lower()
    if text.startswith(_HTML) or (text.startswith((b"<?xml", b"<!--")) and b"<html" in text):
        raise NotAnImage("The origin sent a web page (HTML), not an image. Check the address.")
    if text.startswith((b'{"', b"{\n", b"{ ", b"[{", b'["')):
        raise NotAnImage("The origin sent JSON, not an image. Check the address.")


def too_large(max_bytes: int) -> TooLarge:
    """Return the error for a file over `max_bytes`."""
    return TooLarge(f"The file is larger than the {max_bytes} bytes allowed (ingest.max_bytes).")
