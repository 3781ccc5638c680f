"""Bodies as files in memory: what they hold, when there is none, and that none is left open."""

from __future__ import annotations

import errno
import gc
import os
import random
import resource

import pytest

from orchestrator.cache.hot.memory_files import (
    MOST_FILES,
    WORTH_BYTES,
    MemoryFiles,
    affordable_files,
)
from tests.support.descriptors import open_descriptors

BODY = random.Random(3).randbytes(WORTH_BYTES + 5)


def test_a_file_holds_the_body_and_takes_whole_pages() -> None:
    file = MemoryFiles(1).create(BODY)
    assert file is not None
    assert (file.length, file.read(), file.read(WORTH_BYTES)) == (len(BODY), BODY, BODY[-5:])
    assert len(BODY) + 4096 < file.size < len(BODY) + 2 * 4096
    assert os.pread(file.fd, 2 * len(BODY), 0) == BODY


def test_it_is_closed_when_nobody_refers_to_it() -> None:
    files = MemoryFiles(10)
    gc.collect()  # what other tests left is not to be closed in between
    before = open_descriptors()
    kept = [files.create(BODY) for _ in range(10)]
    assert (files.count, open_descriptors()) == (10, before + 10)
    kept.clear()
    assert (files.count, open_descriptors()) == (0, before)


def test_there_is_none_for_a_small_body_nor_over_the_bound() -> None:
    files = MemoryFiles(1)
    assert files.create(BODY[: WORTH_BYTES - 1]) is None
    first = files.create(BODY)
    assert first is not None
    assert files.create(BODY) is None
    del first
    assert files.create(BODY) is not None


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_a_system_that_gives_none_is_no_fault_and_leaves_nothing_open(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    files = MemoryFiles(1)
    gc.collect()
    before = open_descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        assert files.create(BODY) is None
    assert (files.count, open_descriptors()) == (0, before)
    assert files.create(BODY) is not None


def test_connections_keep_most_of_the_descriptors() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < affordable_files() <= min(MOST_FILES, soft // 4)
