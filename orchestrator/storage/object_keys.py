"""Builds every key of the object store, and checks every key that the store receives.

The objects of an asset are below `{customer}/{space}/{name}/{version}/`. The name is exactly one
segment: its slashes and unusual ASCII characters are percent-encoded. So no asset's prefix contains
another asset, and no name can leave its folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from orchestrator.errors import InvalidInput
from orchestrator.model import AssetId

MAX_KEY_BYTES = 1024
"""The limit of S3."""
_MAX_SEGMENT_BYTES = 255
"""The limit of filesystems; many services store keys as paths of one."""
_MAX_NAME_BYTES, _CUT_NAME_BYTES = 240, 160
"""A longer name is cut; `~`, which no other name contains, and its hash follow."""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._\-\u0080-\U0010ffff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_ACCESS = ("open", "auth")


def asset_prefix(asset_id: AssetId) -> str:
    """Return the prefix of all keys of the asset, of every version."""
    name = _NOT_PLAIN.sub(lambda match: f"%{ord(match[0]):02X}", asset_id.name)
    if len(name.encode()) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(asset_id.name.encode()).hexdigest()[:32]
        name = f"{name.encode()[:_CUT_NAME_BYTES].decode(errors='ignore')}~{digest}"
    return f"{asset_id.customer}/{asset_id.space}/{name}/"


def prefix(asset_id: AssetId, version: int) -> str:
    """Return the prefix of all keys of one version of the asset."""
    return f"{asset_prefix(asset_id)}{version}/"


def source_key(asset_id: AssetId, version: int, extension: str) -> str:
    """Return the key of the tile-ready source; `extension` is `tif` or `jp2`, without a dot."""
    if not _EXTENSION.fullmatch(extension):
        raise InvalidInput("The extension of a source must be one to eight letters and digits.")
    return f"{prefix(asset_id, version)}source.{extension}"


def original_key(asset_id: AssetId, version: int) -> str:
    """Return the key of the file as the origin sent it. It is stored until a source is made, or as
    the source.
    """
    return f"{prefix(asset_id, version)}original"


def upload_key(asset_id: AssetId, version: int) -> str:
    """Return the key of a picture that a client sent as the origin of the asset."""
    return f"{prefix(asset_id, version)}upload"


def thumbnail_key(asset_id: AssetId, version: int, access: str, edge: int) -> str:
    """Return the key of the thumbnail whose longest edge has `edge` pixels. `access` is `open` or
    `auth`.
    """
    if access not in _ACCESS or edge < 1:
        raise InvalidInput("A thumbnail must be open or auth, and at least one pixel large.")
    return f"{prefix(asset_id, version)}{access}/{edge}.jpg"


def sizes_key(asset_id: AssetId, version: int) -> str:
    """Return the key of the list of thumbnails. It is written last: the listed thumbnails exist."""
    return f"{prefix(asset_id, version)}s.json"


def check_key(key: str) -> str:
    """Return the key if every implementation of the store can hold it.

    Raises InvalidInput for a key that is empty, longer than 1024 bytes in UTF-8 (255 between
    slashes), or has control characters, backslashes, or an empty, `.` or `..` segment.
    """
    if not _is_text(key) or len(key.encode()) > MAX_KEY_BYTES or _CONTROL.search(key):
        raise InvalidInput("The object key has a length or characters that are not allowed.")
    for segment in key.split("/"):
        if segment in ("", ".", "..") or len(segment.encode()) > _MAX_SEGMENT_BYTES:
            raise InvalidInput("The object key has a segment that is empty, relative or too long.")
    return key


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return the metadata if every implementation can hold it: lower-case names, printable values
    that are not empty, 2 KB in all. Raises InvalidInput.
    """
    entries = dict(metadata or {})
    for name, value in entries.items():
        if not _METADATA_NAME.fullmatch(name) or not _is_printable(value):
            raise InvalidInput("Object metadata must have lower-case names and printable values.")
    if sum(len(name) + len(value.encode()) for name, value in entries.items()) > 2000:
        raise InvalidInput("Object metadata must be at most 2 KB.")
    return entries


def _is_printable(text: str) -> bool:
    return bool(text) and text == text.strip() and _is_text(text) and not _CONTROL.search(text)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
