"""The keys of uploaded pictures and of what is made of them. Clients compute these keys themselves,
so their form is fixed.

The original has the key `{name}.{extension}`, a resized version `{name}{version}.{extension}`. The
name is `{timestamp}_{random}`. A format that browsers do not show everywhere has versions in JPEG.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

from orchestrator.errors import InvalidInput

_KEY = re.compile(r"(\d{1,12}_\d{1,12})([A-Za-z_-][A-Za-z0-9_-]*)?\.([a-z0-9]{1,5})", re.ASCII)
_RANDOM_DIGITS = 10
_RANDOM_END = 2**31
MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "svg": "image/svg+xml",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "tif": "image/tiff",
}
"""The media type of each extension that a key can have."""
_KEPT_EXTENSIONS = frozenset(("jpg", "png", "gif"))


@dataclass(frozen=True, slots=True)
class PictureKey:
    """A key: of an original if `version` is empty, else of that resized version."""

    name: str
    version: str
    extension: str

    def __str__(self) -> str:
        """Return the key as text."""
        return f"{self.name}{self.version}.{self.extension}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key with this text. Raises InvalidInput."""
        match = _KEY.fullmatch(text)
        if match is None or match[3] not in MEDIA_TYPES:
            raise InvalidInput("The file name is not that of an uploaded picture.")
        return cls(match[1], match[2] or "", match[3])

    @classmethod
    def parse_original(cls, text: str) -> Self:
        """The key of an original. Raises InvalidInput, also for the key of a version."""
        key = cls.parse(text)
        if key.version:
            raise InvalidInput("The file name is that of a resized version. Send the original's.")
        return key

    @property
    def media_type(self) -> str:
        """The media type that belongs to the extension."""
        return MEDIA_TYPES[self.extension]

    def of_version(self, version: str, extension: str = "") -> PictureKey:
        """The key of a version of this original; `extension` is that of another format."""
        return PictureKey(self.name, version, extension or version_extension(self.extension))


def new_name(now: float) -> str:
    """A new name; `now` is the Unix time in seconds."""
    return f"{int(now)}_{secrets.randbelow(_RANDOM_END):0{_RANDOM_DIGITS}d}"


def version_extension(extension: str) -> str:
    """The extension of the versions of an original with this one."""
    return extension if extension in _KEPT_EXTENSIONS else "jpg"
