"""One imaging pool and one folder of pictures for all golden tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.workers.sandbox import FileAccess
from orchestrator.settings import Imaging

TREE = Path(__file__).parents[2]
"""Workers import functions of tests from here."""


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImagingPool]:
    """A pool with small limits and one process in each lane. Its workers are confined."""
    files = FileAccess(
        (TREE, tmp_path_factory.getbasetemp()),
        (tmp_path_factory.getbasetemp(),),
        tmp_path_factory.mktemp("temporary"),
    )
    pool = ImagingPool(Imaging(processes=1, threads=2, max_pixels=200_000_000), files=files)
    yield pool
    asyncio.run(pool.close())


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`gallery(maker, width, height)` is the path of the picture that `maker` of
    tests/support/pictures.py writes. Each picture is written once.
    """
    folder = tmp_path_factory.mktemp("gallery")

    def picture_path(maker: Callable[..., Path], width: int, height: int) -> Path:
        path = folder / f"{maker.__name__}-{width}x{height}"
        return path if path.exists() else maker(path, width, height)

    return picture_path
