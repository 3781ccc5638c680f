"""The folders that the decode workers of an installation may read and write.

Sources and originals that are read in place, and scratch space; never the secrets, the database or
the configuration. The folders of `serve FOLDER` are recorded below the data directory: their
pictures are read in place by later starts, too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from orchestrator.imaging.workers.sandbox import FileAccess
from orchestrator.settings import Settings

_RECORD = "served-folders"


def access_of(settings: Settings, temporary: Path | None = None) -> FileAccess:
    """The folders for these settings (blocking). The folders of the product are made if they do not
    exist, so that a worker that starts now can read what is written to them later. `temporary` is
    where libraries keep temporary files: by default the scratch space.
    """
    data, uploads, storage = settings.data_dir, settings.uploads, settings.storage
    scratch = data / "scratch"
    sources = _absolute(settings.cache.sources_folder) or data / "cache" / "sources"
    promoted = sources / ".temp"  # where a promotion writes its pyramid
    own = [sources]
    if storage.kind == "filesystem":
        own.append(data / "objects" if storage.root == Path() else storage.root)
    for folder in (scratch, promoted, *own):
        with suppress(OSError):  # the process that writes to it reports that
            folder.mkdir(parents=True, exist_ok=True)
    named = [
        settings.ingest.folder,
        *settings.ingest.file_roots,
        settings.ico.folder,
        *((uploads.incoming_folder, uploads.active_folder) if uploads.backend == "local" else ()),
        *settings.imaging.readable_folders,
        *_recorded(data),
    ]
    readable = [*own, *filter(None, map(_absolute, named))]
    temp_folder = _absolute(uploads.temp_folder)
    writable = (scratch, promoted, temp_folder) if temp_folder else (scratch, promoted)
    return FileAccess(tuple(dict.fromkeys(readable)), writable, temporary or scratch)


def record_folder(data_dir: Path, folder: str) -> None:
    """Record that pictures of `folder` are read in place (blocking)."""
    if folder not in (known := _recorded(data_dir)):
        path = data_dir / _RECORD
        temporary = path.with_name(f"{_RECORD}.new")
        temporary.write_text("".join(f"{each}\n" for each in (*known, folder)))
        temporary.replace(path)


def folder_of(path: Path) -> Path:
    """The folder that a file is in, links followed (blocking)."""
    return Path(os.path.realpath(path)).parent


def _recorded(data_dir: Path) -> list[str]:
    try:
        return (data_dir / _RECORD).read_text().splitlines()
    except FileNotFoundError:
        return []


def _absolute(folder: str) -> Path | None:
    return Path(folder).absolute() if folder else None
