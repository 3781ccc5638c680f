"""Hands files in memory (memfd) to a decode worker. They have no name in a file system, and a
confined worker cannot reach the descriptors of its parent, so each call brings its own ones.

The descriptors of one call travel in one message with the number of the call. A worker drops those
of calls that it never began.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orchestrator.imaging.open_memory import is_memory_path
from orchestrator.imaging.recipes import Recipe

_MAX_FILES = 8
_NUMBER_BYTES = 8
_FIRST_DESCRIPTOR = 256
"""Above what a worker opens itself, so that the same file has the same path in the next call: what
the worker keeps open of a file is found by its path.
"""
_sockets: list[socket.socket] = []
"""Where this worker receives files. At module level: an executor passes its tasks no state."""


class FileHandover:
    """The sending end, in the parent, and until the worker has started its receiving end."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._calls = 0

    def prepare(
        self, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The call for the worker. If recipes are of files in memory, these are sent, and the call
        receives them first.
        """
        paths = _memory_paths(arguments)
        if not paths:
            return function, arguments
        self._calls += 1
        descriptors = [int(path.rpartition("/")[2]) for path in paths]
        with suppress(BrokenPipeError, ConnectionResetError):  # the worker ended: so says the call
            number = self._calls.to_bytes(_NUMBER_BYTES, "big")
            socket.send_fds(self._ours, [number], descriptors)
        return call_with_files, (self._calls, paths, function, arguments)

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self.theirs.close()


def receive_from(theirs: socket.socket) -> None:
    """Let this worker receive files from the other end of `theirs`."""
    _sockets[:] = [theirs]


def call_with_files(
    number: int, paths: Sequence[str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """In a worker: the result of `function`, whose recipes name the parent's `paths`. Their files
    were sent with the call of this number.
    """
    descriptors = _receive(number)
    try:
        own = {
            path: f"/proc/self/fd/{descriptor}"
            for path, descriptor in zip(paths, descriptors, strict=True)
        }
        return function(*(_with_own_paths(argument, own) for argument in arguments))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(number: int) -> list[int]:
    while True:
        sent, received, _, _ = socket.recv_fds(_sockets[0], _NUMBER_BYTES, _MAX_FILES)
        if not sent:
            raise EOFError("the parent ended")
        is_wanted = int.from_bytes(sent, "big") == number
        kept = [_move_up(each) for each in received] if is_wanted else []
        for each in received:
            os.close(each)
        if is_wanted:
            return kept


def _move_up(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)


def _memory_paths(arguments: tuple[Any, ...]) -> list[str]:
    """The different paths of files in memory among the recipes."""
    recipes = [each for each in _flat(arguments) if isinstance(each, Recipe)]
    return list(dict.fromkeys(each.path for each in recipes if is_memory_path(each.path)))


def _flat(arguments: tuple[Any, ...]) -> list[Any]:
    first = arguments[0] if arguments else None
    return first if isinstance(first, list) else list(arguments)


def _with_own_paths(argument: Any, own: dict[str, str]) -> Any:
    if isinstance(argument, list):
        return [_with_own_paths(each, own) for each in argument]
    if isinstance(argument, Recipe) and argument.path in own:
        return replace(argument, path=own[argument.path])
    return argument
