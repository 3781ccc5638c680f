"""The account that runs the embedded PostgreSQL, which must not be root: the account of this
process, or another one if that is root.

As root, this module lets that account pass through the folders above its data, and gives it no
other right: by an access control entry for the account where the filesystem supports them, else by
the right of all accounts to pass (not to list) the folder.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import struct
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import CatalogUnavailable

_NAMES = ("pgserver", "postgres")
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_UNDEFINED_ID = 0xFFFFFFFF
_PASS = 1
_TIMEOUT_S, _END_S = 120, 5


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the server. `switch`: it is not the account of this process."""

    uid: int
    gid: int
    switch: bool

    def run(self, program: Path, *arguments: str, holding: int | None = None) -> None:
        """Run a program under this account and wait for it. It keeps the descriptor `holding` open.
        If the wait is interrupted, the program and what it started are ended.

        Raises OSError, subprocess.SubprocessError.
        """
        words = [str(program), *arguments]
        process = subprocess.Popen(  # noqa: S603  binaries of the wheel, no shell
            words,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server it starts would keep a pipe open
            stderr=subprocess.DEVNULL,
            pass_fds=() if holding is None else (holding,),
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )
        try:
            status = process.wait(_TIMEOUT_S)
        except BaseException:  # a time-out, or the signal that ends this process; raised again
            _end(process)
            raise
        if status:
            raise subprocess.CalledProcessError(status, words)

    def own(self, folder: Path) -> None:
        """Give the folder to this account."""
        if self.switch:
            os.chown(folder, self.uid, self.gid)

    def check_owned(self, folder: Path) -> None:
        """Raise CatalogUnavailable if another account owns the folder or may use it."""
        status = folder.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder or status.st_uid != self.uid or status.st_mode & 0o077:
            raise CatalogUnavailable(f"Another account owns or may use {folder}. Remove it.")


def account_for(folder: Path) -> Account:
    """The account that owns the data folder, or will own it. Raises CatalogUnavailable."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    if (folder / "PG_VERSION").exists():
        status = folder.stat()
        return Account(status.st_uid, status.st_gid, switch=True)
    entry = _find_user() or _create_user()
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def let_reach(account: Account, folder: Path) -> None:
    """Let the account pass through all folders above this one, and into it. Only as root."""
    if not account.switch:
        return
    for above in (folder, *folder.parents):
        status = above.stat()
        if status.st_uid == account.uid or status.st_mode & stat.S_IXOTH:
            continue
        try:
            _allow(above, account.uid, status.st_mode)
        except OSError:  # no access control lists on this filesystem
            above.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads a process group. After SIGINT, pg_ctl ends the server that it
    starts, and initdb removes its files.
    """
    with suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _find_user() -> pwd.struct_passwd | None:
    for name in _NAMES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _create_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _NAMES[0]]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603  constant
        return pwd.getpwnam(_NAMES[0])
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        raise CatalogUnavailable(
            "PostgreSQL does not run as root and the user pgserver could not be created. "
            "Create it, start as another user, or set database.dsn."
        ) from error


def _allow(folder: Path, uid: int, mode: int) -> None:
    """Add `user:uid:--x` to the folder's access control list. Raises OSError."""
    entries = _entries(folder) or [
        (_USER_OBJ, mode >> 6 & 7, _UNDEFINED_ID),
        (_GROUP_OBJ, mode >> 3 & 7, _UNDEFINED_ID),
        (_OTHER, mode & 7, _UNDEFINED_ID),
    ]
    group = next(rights for tag, rights, _ in entries if tag in (_MASK, _GROUP_OBJ)) | _PASS
    others = [entry for entry in entries if entry[0] != _MASK and entry[::2] != (_USER, uid)]
    entries = sorted([*others, (_USER, _PASS, uid), (_MASK, group, _UNDEFINED_ID)], key=_order)
    packed = b"".join(_ENTRY.pack(*entry) for entry in entries)
    os.setxattr(folder, _ACL, struct.pack("<I", _ACL_VERSION) + packed)


def _entries(folder: Path) -> list[tuple[int, int, int]]:
    try:
        return list(_ENTRY.iter_unpack(os.getxattr(folder, _ACL)[4:]))
    except OSError:
        return []


def _order(entry: tuple[int, int, int]) -> tuple[int, int]:
    return entry[0], entry[2]
