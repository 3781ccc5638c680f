"""Reads whole files up to a limit."""

from __future__ import annotations

import os
from typing import BinaryIO


def read_at_most(file: BinaryIO, limit: int) -> bytes:
    """The bytes of `file` from its position, at most `limit`. Raises OSError.

    `file.read(limit)` allocates `limit` bytes, however small the file is, and an allocator that
    clears memory also writes them.
    """
    return file.read(min(limit, os.fstat(file.fileno()).st_size))
