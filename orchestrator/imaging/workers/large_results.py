"""Large results of a decode worker, which do not pass through a pipe.

A pipe takes 64 KB at a time, and unpickling copies everything once more: 24 ms of processor time
in the serving process for 10 MB. A file in memory takes 5 ms.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

LARGE_BYTES = 256 * 1024
"""Below this size a pipe costs less."""
_kept: list[int] = []
"""The file of the last large result of this process, until the next call. It must be at module
level: an executor passes its tasks no state of their process.
"""


@dataclass(frozen=True, slots=True)
class LargeResult:
    """Bytes in a file without a name that a worker keeps open until its next call."""

    pid: int
    number: int
    size: int

    def take(self) -> bytes:
        """The bytes, once: their memory is then free. Raises OSError if the worker has ended.
        Blocks for some milliseconds.
        """
        path = f"/proc/{self.pid}/fd/{self.number}"
        with open(path, "r+b", buffering=0) as file:  # noqa: PTH123  not a file of a folder
            body = os.pread(file.fileno(), self.size, 0)
            file.truncate(0)
        if len(body) != self.size:
            raise OSError("a result of a decode worker is incomplete")
        return body


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run `function` in this process, which is a decode worker; its result, or a LargeResult."""
    while _kept:
        os.close(_kept.pop())
    result = function(*arguments)
    if not isinstance(result, bytes) or len(result) < LARGE_BYTES:
        return result
    with suppress(OSError):  # no file in memory: the result takes the pipe
        return keep(result)
    return result


def keep(body: bytes) -> LargeResult:
    """Keep `body` in a file in memory. Raises OSError."""
    number = os.memfd_create("result")
    _kept.append(number)
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(number, rest) :]
    return LargeResult(os.getpid(), number, len(body))
