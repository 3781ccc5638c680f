"""Checks that this process may write the data directory, before anything is started in it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import StorageUnavailable

_CHOOSE = "or choose another directory with --data."


def check_writable(data_dir: Path) -> None:
    """Create the data directory if it does not exist. Raises StorageUnavailable, with a sentence
    that says how to mend it, if this user may not write it, or a file that an earlier run made.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Not Path.exists: it raises PermissionError below a folder that may not be entered.
        parent = next(path for path in (data_dir, *data_dir.parents) if os.path.exists(path))  # noqa: PTH110
        if parent != data_dir and parent.is_dir():
            raise _refusal(parent, data_dir) from error
        raise StorageUnavailable(f"{parent} is not a directory. Remove it, {_CHOOSE}") from error
    for path in (data_dir, *_made_by_us(data_dir)):
        if not _may_write(path):
            raise _refusal(path, data_dir)


def _made_by_us(data_dir: Path) -> Iterator[Path]:
    """The entries of the directory and of its caches: each is made by one process, and its content
    belongs to the same user.
    """
    for folder in (data_dir, data_dir / "cache"):
        try:
            yield from sorted(folder.iterdir())
        except OSError:
            continue


def _may_write(path: Path) -> bool:
    needed = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    return os.access(path, needed, effective_ids=True)


def _refusal(path: Path, data_dir: Path) -> StorageUnavailable:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return StorageUnavailable(
            f"{path} is on a read-only file system. Mount it for writing, {_CHOOSE}"
        )
    owner = _name_of(path.stat().st_uid)
    user = _name_of(os.geteuid())
    if owner == user:
        return StorageUnavailable(
            f"{path} does not permit its owner {user} to write. "
            f"Run chmod -R u+rwX {data_dir}, {_CHOOSE}"
        )
    return StorageUnavailable(
        f"{path} belongs to {owner}, and this process runs as {user}. Start it as {owner}, "
        f"run chown -R {user} {data_dir} as root, {_CHOOSE}"
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
