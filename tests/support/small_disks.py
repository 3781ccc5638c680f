"""Mounts a small file system, which a test fills or makes read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(at: Path, options: str) -> Iterator[Path]:
    """A tmpfs with these mount options (as `size=1m`) at the new folder `at`, for the block. Skips
    the test if this user may not mount.
    """
    at.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)
