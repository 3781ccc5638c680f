"""Every key of the object store is built here, and every key the store is given is checked here.

An asset's objects lie below `{customer}/{space}/{name}/{version}/`. The name takes exactly one
segment (its slashes and all ASCII that is not plain are percent-encoded), so that no asset's
prefix is another's, and none can climb out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from orchestrator.errors import InvalidInput
from orchestrator.model import AssetId

MAX_KEY_BYTES = 1024
"""S3's own bound."""
_MAX_SEGMENT_BYTES = 255
"""Many services keep keys as paths of a filesystem, with its bound."""
_MAX_NAME_BYTES, _KEPT_NAME_BYTES = 240, 160
"""A longer name is cut and marked with `~`, which is in no other, and its hash."""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._\-\u0080-\U0010ffff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_ACCESS = ("open", "auth")


def asset_prefix(asset_id: AssetId) -> str:
    """What all keys of the asset, of every version, begin with."""
    name = _NOT_PLAIN.sub(lambda match: f"%{ord(match[0]):02X}", asset_id.name)
    if len(name.encode()) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(asset_id.name.encode()).hexdigest()[:32]
        name = f"{name.encode()[:_KEPT_NAME_BYTES].decode(errors='ignore')}~{digest}"
    return f"{asset_id.customer}/{asset_id.space}/{name}/"


def prefix(asset_id: AssetId, version: int) -> str:
    """What all keys of one version of the asset begin with."""
    return f"{asset_prefix(asset_id)}{version}/"


def source_key(asset_id: AssetId, version: int, extension: str) -> str:
    """The tile-ready source; `extension` without its dot, such as `tif` or `jp2`."""
    if not _EXTENSION.fullmatch(extension):
        raise InvalidInput("The extension of a source is one to eight letters and digits.")
    return f"{prefix(asset_id, version)}source.{extension}"


def original_key(asset_id: AssetId, version: int) -> str:
    """The file as it came from its origin, kept while it is all there is, or because it is the
    source.
    """
    return f"{prefix(asset_id, version)}original"


def thumbnail_key(asset_id: AssetId, version: int, access: str, edge: int) -> str:
    """The thumbnail with this longest edge in pixels; `access` is `open` or `auth`."""
    if access not in _ACCESS or edge < 1:
        raise InvalidInput("A thumbnail is open or auth and at least one pixel large.")
    return f"{prefix(asset_id, version)}{access}/{edge}.jpg"


def sizes_key(asset_id: AssetId, version: int) -> str:
    """The list of thumbnails, written last: where it is, the thumbnails are."""
    return f"{prefix(asset_id, version)}s.json"


def checked(key: str) -> str:
    """The key itself, if every form of the store can hold it.

    Raises InvalidInput for one that is empty, longer than 1024 bytes in UTF-8 (255 between
    slashes), or has control characters, backslashes, or an empty, `.` or `..` segment.
    """
    if not _is_text(key) or len(key.encode()) > MAX_KEY_BYTES or _CONTROL.search(key):
        raise InvalidInput("The object key is not of the allowed length and characters.")
    for segment in key.split("/"):
        if segment in ("", ".", "..") or len(segment.encode()) > _MAX_SEGMENT_BYTES:
            raise InvalidInput("The object key has an empty, relative or too long segment.")
    return key


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The metadata, if every form can hold it: lower-case names, printable values that are not
    empty, 2 KB together. Raises InvalidInput.
    """
    entries = dict(metadata or {})
    for name, value in entries.items():
        if not _METADATA_NAME.fullmatch(name) or not _is_printable(value):
            raise InvalidInput("Object metadata has lower-case names and printable values.")
    if sum(len(name) + len(value.encode()) for name, value in entries.items()) > 2000:
        raise InvalidInput("Object metadata is at most 2 KB.")
    return entries


def _is_printable(text: str) -> bool:
    return bool(text) and text == text.strip() and _is_text(text) and not _CONTROL.search(text)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
