"""The account the embedded PostgreSQL runs under, which must not be root: our own, or another one
when we are root.

As root, that account is let through the folders above its data and nothing else is opened to it:
an access control entry for it alone where the filesystem has them, else the right of everyone to
pass (not to list) the folder.
"""

from __future__ import annotations

import os
import pwd
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import CatalogUnavailable

_NAMES = ("pgserver", "postgres")
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY_ID = 0xFFFFFFFF
_PASS = 1


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server; `switch` when that is not who we are."""

    uid: int
    gid: int
    switch: bool

    def run(self, program: Path, *arguments: str, holding: int | None = None) -> None:
        """Run a program to its end under this account; it keeps the descriptor `holding` open.

        Raises OSError, subprocess.SubprocessError.
        """
        subprocess.run(  # noqa: S603  our own binaries, no shell
            [program, *arguments],
            check=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would stay open in the server it starts
            stderr=subprocess.DEVNULL,
            timeout=120,
            pass_fds=() if holding is None else (holding,),
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )

    def own(self, folder: Path) -> None:
        """Give the folder to this account."""
        if self.switch:
            os.chown(folder, self.uid, self.gid)

    def check_owned(self, folder: Path) -> None:
        """Refuse a folder somebody else put there. Raises CatalogUnavailable."""
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.uid or found.st_mode & 0o077:
            raise CatalogUnavailable(f"{folder} belongs to somebody else; remove it.")


def account_for(folder: Path) -> Account:
    """The account that owns the data folder, else the one that will. Raises CatalogUnavailable."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    if (folder / "PG_VERSION").exists():
        found = folder.stat()
        return Account(found.st_uid, found.st_gid, switch=True)
    entry = _known() or _made()
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def let_reach(account: Account, folder: Path) -> None:
    """Let the account through every folder above this one, and into it; as root only."""
    if not account.switch:
        return
    for above in (folder, *folder.parents):
        found = above.stat()
        if found.st_uid == account.uid or found.st_mode & stat.S_IXOTH:
            continue
        try:
            _allow(above, account.uid, found.st_mode)
        except OSError:  # no access control lists on this filesystem
            above.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _known() -> pwd.struct_passwd | None:
    for name in _NAMES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _made() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _NAMES[0]]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603  constant
        return pwd.getpwnam(_NAMES[0])
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        raise CatalogUnavailable(
            "PostgreSQL does not run as root and the user pgserver could not be made: "
            "make it, start as another user, or set database.dsn."
        ) from error


def _allow(folder: Path, uid: int, mode: int) -> None:
    """Add `user:uid:--x` to the folder's access control list. Raises OSError."""
    entries = _entries(folder) or [
        (_USER_OBJ, mode >> 6 & 7, _NOBODY_ID),
        (_GROUP_OBJ, mode >> 3 & 7, _NOBODY_ID),
        (_OTHER, mode & 7, _NOBODY_ID),
    ]
    group = next(rights for tag, rights, _ in entries if tag in (_MASK, _GROUP_OBJ)) | _PASS
    kept = [entry for entry in entries if entry[0] != _MASK and entry[::2] != (_USER, uid)]
    wanted = sorted([*kept, (_USER, _PASS, uid), (_MASK, group, _NOBODY_ID)], key=_order)
    packed = b"".join(_ENTRY.pack(*entry) for entry in wanted)
    os.setxattr(folder, _ACL, struct.pack("<I", _ACL_VERSION) + packed)


def _entries(folder: Path) -> list[tuple[int, int, int]]:
    try:
        return list(_ENTRY.iter_unpack(os.getxattr(folder, _ACL)[4:]))
    except OSError:
        return []


def _order(entry: tuple[int, int, int]) -> tuple[int, int]:
    return entry[0], entry[2]
