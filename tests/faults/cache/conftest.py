"""Child processes, killed at the end of each test, and folders for them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.caches import child

Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "derivatives"


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started: list[subprocess.Popen[bytes]] = []

    def one(*arguments: object) -> subprocess.Popen[bytes]:
        started.append(child(*arguments))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.communicate()
