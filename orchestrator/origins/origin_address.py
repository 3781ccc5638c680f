"""Parsing of an origin, which is an absolute path or an address. Pure."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import InvalidInput

MAX_ORIGIN_CHARS = 8000
_MALFORMED = "The origin is not a well-formed address."


def scheme_of(origin: str) -> str:
    """Return the scheme in lower case, `file` for an absolute path. Raises InvalidInput."""
    if origin.startswith("/"):
        return "file"
    try:
        scheme = urlsplit(origin).scheme
    except ValueError as error:
        raise InvalidInput(_MALFORMED) from error
    if not scheme:
        raise InvalidInput("The origin must be an absolute path or an address such as https://...")
    return scheme


def local_path(origin: str) -> Path:
    """Return the path of a file origin (`/path` or `file:///path`).

    Raises InvalidInput for any other origin.
    """
    if scheme_of(origin) != "file":
        raise InvalidInput("The origin is not a local file.")
    if origin.startswith("/"):
        return Path(origin)
    parts = urlsplit(origin)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidInput("A file origin must have the form file:///absolute/path.")
    return Path(path)


def split_server_address(origin: str, scheme: str, default_port: int) -> tuple[str, int, str]:
    """Return (host, port, decoded path) of `scheme://host[:port]/path`.

    Raises InvalidInput for any other form, for a user or password in the address, and for a path
    with control characters, which a server could read as commands.
    """
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
        path = unquote(parts.path, errors="strict")
    except ValueError as error:
        raise InvalidInput(_MALFORMED) from error
    if parts.scheme.lower() != scheme or not host:
        raise InvalidInput(f"The origin must be an address such as {scheme}://host/path.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "The origin's address must not contain a user name or password. "
            "Give them as credentials of an origin strategy."
        )
    if any(ord(character) < 32 or character == "\x7f" for character in path) or len(path) < 2:
        raise InvalidInput("The path of the origin is empty or has control characters.")
    return host, port or default_port, path
