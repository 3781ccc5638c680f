"""Confines a decode worker: the kernel refuses it sockets, other programs and processes, and files
outside the folders that it needs. A decoder that a picture took over can read only those folders.

Landlock limits files, seccomp limits system calls. Either may be missing (an old kernel, a
container that forbids them): then the other one is used, and `find_gaps` says what is left open.
docs/adr/0034-confined-decode-workers.md says why these means.
"""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import socket
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38

# Landlock, linux/landlock.h. Its system calls have the same numbers on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 << 15
"""The rights that a rule for a single file may have."""
_RIGHTS_OF_VERSION = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many bits of file rights each version of Landlock has, where that changed."""
_NETWORK_FROM, _NETWORK = 4, 0b11
_SCOPES_FROM, _SCOPES = 6, 0b11
"""Abstract Unix sockets of other processes, and signals to them."""

# libseccomp, seccomp.h.
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FOR_ALL_THREADS, _NO_SPECULATION_BARRIER = 4, 7
_NOT_EQUAL, _MASKED_EQUAL = 1, 7
_CLONE_THREAD = 0x10000
_REFUSED = (
    # sockets, in every way to make or use one
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("sendto", "sendmsg", "sendmmsg", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    # other processes
    *("tkill", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "rt_sigqueueinfo"),
    *("rt_tgsigqueueinfo", "ptrace", "process_madvise", "process_vm_readv", "process_vm_writev"),
    "kcmp",
    # the system
    *("mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "pivot_root", "chroot"),
    *("unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key"),
    *("request_key", "init_module", "finit_module", "delete_module", "kexec_load", "reboot"),
    *("swapon", "swapoff", "name_to_handle_at", "open_by_handle_at", "acct", "quotactl"),
)

_PROGRAMS = ("execve", "execveat", "fork", "vfork")

_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/etc/fonts", "/etc/ld.so.cache", "/etc/ld.so.conf.d"),
    *("/etc/localtime", "/var/cache/fontconfig", "/dev/null", "/dev/zero", "/dev/urandom"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"),
)
_PROGRAM_FOLDERS = ("/usr", "/lib", "/lib64")
_FONTS = (".fonts", ".local/share/fonts", ".config/fontconfig", ".cache/fontconfig")
"""Folders of fonts and of their index, below the home directory."""
_START_TIMEOUT_S = 60.0
_OUTSIDE = "/etc/passwd"
"""A file that exists everywhere and that no decoder needs."""


@dataclass(frozen=True, slots=True)
class FileAccess:
    """The folders of a worker besides the libraries and fonts of the system. Those that do not
    exist when the worker starts are closed to it until it is replaced.
    """

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    """Also readable."""
    temporary: Path
    """Where libraries keep temporary files; below one of the writable folders."""

    def covers(self, path: str) -> bool:
        """True if the file is in one of the folders, links followed (blocking)."""
        real = Path(os.path.realpath(path))
        folders = (os.path.realpath(folder) for folder in (*self.readable, *self.writable))
        return any(real.is_relative_to(folder) for folder in folders)


def confine(access: FileAccess | None, *, programs: bool = False) -> None:
    """Confine this process for ever, as far as the system can. None does not limit files.
    `programs`: it may start programs of the system, which are confined as it is.

    Must be called by the only thread: Landlock limits the thread that calls, and those that it
    starts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if access is not None:
        libc.setenv(b"TMPDIR", os.fsencode(access.temporary), 1)  # for libvips
        tempfile.tempdir = str(access.temporary)
        with suppress(OSError):
            _limit_files(libc, access, programs=programs)
    with suppress(OSError, AttributeError):  # libseccomp is missing or too old
        _limit_system_calls(ctypes.CDLL("libseccomp.so.2", use_errno=True), programs=programs)


def find_gaps(access: FileAccess | None, *, programs: bool = False) -> tuple[str, ...]:
    """What this process could still do, found by trying: of "sockets", "programs" and "files".
    `programs`: it may start them.
    """
    gaps = []
    with suppress(OSError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
        gaps.append("sockets")
    if not programs and not _is_execution_refused():
        gaps.append("programs")
    if access is not None:
        with suppress(OSError):
            os.close(os.open(_OUTSIDE, os.O_RDONLY))
            gaps.append("files")
    return tuple(gaps)


def _is_execution_refused() -> bool:
    try:
        os.execve("/nonexistent", ["nonexistent"], {})  # noqa: S606  it does not exist
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def try_confinement(access: FileAccess | None) -> tuple[str, ...]:
    """The gaps of a process that is started and confined for this (blocking)."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=confine, initargs=(access,)
    ) as executor:
        return executor.submit(find_gaps, access).result(_START_TIMEOUT_S)


def _limit_files(libc: ctypes.CDLL, access: FileAccess, *, programs: bool) -> None:
    """Let this thread open only what the rules name. Raises OSError if Landlock is missing."""
    version = _checked(libc.syscall(_CREATE_RULESET, None, 0, 1))
    handled = _file_rights(version)
    ruleset = _checked(
        libc.syscall(_CREATE_RULESET, ctypes.byref(_ruleset(version, handled)), 24, 0)
    )
    try:
        for path in (*_system_paths(), *access.readable):
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR)
        for path in map(Path, _PROGRAM_FOLDERS if programs else ()):
            _allow(libc, ruleset, path, _EXECUTE)
        _allow(libc, ruleset, Path("/dev/null"), _READ_FILE | _WRITE_FILE)
        for path in access.writable:
            _allow(libc, ruleset, path, handled & ~_EXECUTE)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _file_rights(version: int) -> int:
    """All rights to files that this version of Landlock can refuse."""
    bits = max(count for since, count in _RIGHTS_OF_VERSION.items() if since <= version)
    return (1 << bits) - 1


def _ruleset(version: int, handled: int) -> ctypes.Array[ctypes.c_uint64]:
    """`struct landlock_ruleset_attr`. Older kernels accept the longer one if the rest is zero."""
    network = _NETWORK if version >= _NETWORK_FROM else 0
    scopes = _SCOPES if version >= _SCOPES_FROM else 0
    return (ctypes.c_uint64 * 3)(handled, network, scopes)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Allow `rights` to the file, or to all in the folder. A path that does not exist is left
    out.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _ON_FILES
        rule = _PathBeneath(rights, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(descriptor)


def _system_paths() -> Iterable[Path]:
    """Libraries, fonts, this Python with its packages, and our own package."""
    yield from map(Path, _SYSTEM)
    yield from (Path.home() / name for name in _FONTS)
    yield from map(Path, (sys.prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("platlib")))
    yield Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    yield Path(__file__).parents[2]


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def _limit_system_calls(library: ctypes.CDLL, *, programs: bool) -> None:
    """Refuse the calls that no decoder makes, in all threads. Raises OSError if the kernel cannot,
    AttributeError if the library is too old.
    """
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    if not context:
        raise OSError(errno.ENOMEM, "seccomp_init")
    try:
        library.seccomp_attr_set(context, _FOR_ALL_THREADS, 1)
        # The filter reads no secret of another process, so its calls need not become slower.
        library.seccomp_attr_set(context, _NO_SPECULATION_BARRIER, 1)
        for name in _REFUSED:
            _refuse(library, context, name, errno.EPERM)
        if not programs:
            _refuse_processes(library, context)
        if (result := library.seccomp_load(context)) < 0:
            raise OSError(-result, "seccomp_load")
    finally:
        library.seccomp_release(context)


def _refuse_processes(library: ctypes.CDLL, context: ctypes.c_void_p) -> None:
    """Refuse programs, processes (but no threads) and signals to others."""
    for name in _PROGRAMS:
        _refuse(library, context, name, errno.EPERM)
    own = os.getpid()
    for name in ("kill", "tgkill"):
        _refuse(library, context, name, errno.EPERM, _Comparison(0, _NOT_EQUAL, own))
    no_thread = _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, 0)
    _refuse(library, context, "clone", errno.EPERM, no_thread)
    # A filter cannot see the flags of clone3. Without it, the C library uses clone.
    _refuse(library, context, "clone3", errno.ENOSYS)


def _refuse(
    library: ctypes.CDLL,
    context: ctypes.c_void_p,
    name: str,
    error: int,
    *comparisons: _Comparison,
) -> None:
    """Answer the system call with `error` if all comparisons hold. One that this architecture or
    this release of libseccomp does not know is left out.
    """
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        return
    array = (_Comparison * len(comparisons))(*comparisons)
    library.seccomp_rule_add_array(
        context, ctypes.c_uint32(_ERRNO | error), number, len(comparisons), array
    )


def _checked(result: int) -> int:
    """The result of a system call. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
