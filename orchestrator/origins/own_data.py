"""What the product itself keeps, which is never an origin: its object store, its secrets and its
working files. Otherwise a customer could read the pictures of another one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from orchestrator.errors import OriginUnavailable
from orchestrator.origins.s3_address import BucketObject
from orchestrator.settings import Settings
from orchestrator.storage.customer_buckets import S3Login

_OWN_FOLDERS = ("postgres", "objects", "cache", "scratch", "run", "secrets", "metrics")


@dataclass(frozen=True, slots=True)
class OwnData:
    """Folders of this host, and the bucket of the object store, if it is one."""

    folders: tuple[Path, ...] = ()
    bucket: str = ""
    prefix: str = ""
    """Of the keys in the bucket."""
    endpoint: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what an installation with these settings keeps (blocking)."""
        storage = settings.storage
        folders = [settings.data_dir / name for name in _OWN_FOLDERS]
        if storage.kind == "filesystem" and storage.root != Path():
            folders.append(storage.root)
        if settings.cache.sources_folder:
            folders.append(Path(settings.cache.sources_folder))
        resolved = tuple(Path(os.path.realpath(folder)) for folder in folders)
        bucket = storage.bucket if storage.kind == "s3" else ""
        return cls(resolved, bucket, storage.prefix, storage.endpoint)

    def holds_file(self, path: Path) -> bool:
        """Return whether the file is in one of the folders, links followed (blocking)."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(folder) for folder in self.folders)

    def check_file(self, path: Path) -> None:
        """Raise OriginUnavailable (origin_refused) for a file in one of the folders (blocking)."""
        if self.holds_file(path):
            raise _refusal("The origin is a file of this installation. Use the original file.")

    def check_object(self, login: S3Login, where: BucketObject) -> None:
        """Raise OriginUnavailable (origin_refused) for an object of the object store.

        A bucket of the same name on a server that the customer chose is another bucket.
        """
        if not self.bucket or where.bucket.lower() != self.bucket.lower():
            return
        if login.is_checked and _server(login.endpoint) != _server(self.endpoint):
            return
        prefix = _plain(self.prefix)
        if not prefix or f"{_plain(where.key)}/".startswith(f"{prefix}/"):
            raise _refusal("The origin is in the object store of this installation.")


def _server(endpoint: str) -> tuple[str, int | None]:
    parts = urlsplit(endpoint)
    default = 443 if parts.scheme == "https" else 80
    return parts.hostname or "", parts.port or default


def _plain(key: str) -> str:
    """Return the key without empty segments, which some servers drop."""
    return "/".join(segment for segment in key.split("/") if segment)


def _refusal(public: str) -> OriginUnavailable:
    return OriginUnavailable(public, retryable=False, code="origin_refused")
