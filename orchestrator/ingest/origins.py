"""Where a customer's bytes come from: one fetcher for each scheme, all ending in a private scratch
file.

An origin is an absolute path, `file:///path`, `http://...` or `https://...`. A scheme nobody here
fetches is refused; no origin is ever read in place by this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from orchestrator.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Fetched:
    """An origin's bytes on private scratch, and what the origin said of them."""

    path: Path
    bytes: int
    sha256: str
    fingerprint: str
    """What tells these bytes from others: `{mtime_ns}-{bytes}` of a file, else the SHA-256."""
    media_type: str = ""
    etag: str = ""


class OriginFetcher(Protocol):
    """One way of reading origins; filled by `http.py` and `file.py`."""

    async def fetch(self, origin: str, target: Path) -> Fetched:
        """Copy the origin to the new file `target`.

        Raises OriginUnavailable, TooLarge, Unprocessable or InvalidInput, each with the public
        cause.
        """
        ...


class Origins:
    """Chooses the fetcher by the origin's scheme."""

    def __init__(self, fetchers: Mapping[str, OriginFetcher]) -> None:
        """`fetchers` by lower-case scheme: http, https, file."""
        self._fetchers = dict(fetchers)

    async def fetch(self, origin: str, target: Path) -> Fetched:
        """Copy the origin to the new file `target`; see `OriginFetcher.fetch`."""
        scheme = scheme_of(origin)
        fetcher = self._fetchers.get(scheme)
        if fetcher is None:
            known = ", ".join(sorted(self._fetchers))
            raise InvalidInput(
                f"Origins of the kind {scheme}: are not read here; these are: {known}."
            )
        return await fetcher.fetch(origin, target)


def scheme_of(origin: str) -> str:
    """Return the scheme in lower case; `file` for an absolute path. Raises InvalidInput."""
    if origin.startswith("/"):
        return "file"
    try:
        scheme = urlsplit(origin).scheme
    except ValueError as error:
        raise InvalidInput("The origin is not a well-formed address.") from error
    if not scheme:
        raise InvalidInput(
            "The origin should be an absolute path or an address such as https://..."
        )
    return scheme


def local_path(origin: str) -> Path:
    """Return the path of a file origin (`/path` or `file:///path`). Raises InvalidInput for any
    other.
    """
    if scheme_of(origin) != "file":
        raise InvalidInput("The origin is not a local file.")
    if origin.startswith("/"):
        return Path(origin)
    parts = urlsplit(origin)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidInput("A file origin should read file:///absolute/path.")
    return Path(path)
