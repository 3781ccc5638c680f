"""Bodies as files in memory: their contents, when none is created, and that none stays open."""

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
from tests.support.descriptors import open_memory_files

BODY = random.Random(3).randbytes(WORTH_BYTES + 5)


def test_a_file_has_the_body_and_counts_whole_pages() -> None:
    file = MemoryFiles(1).create(BODY)
    assert file is not None
    assert (file.length, file.read(), file.read(WORTH_BYTES)) == (len(BODY), BODY, BODY[-5:])
    assert len(BODY) + 4096 < file.size < len(BODY) + 2 * 4096
    assert os.pread(file.fd, 2 * len(BODY), 0) == BODY


def test_a_file_is_closed_when_there_are_no_references_to_it() -> None:
    files = MemoryFiles(10)
    gc.collect()  # what other tests left is not to be closed in between
    before = open_memory_files()
    bodies = [files.create(BODY) for _ in range(10)]
    assert (files.count, open_memory_files()) == (10, before + 10)
    bodies.clear()
    assert (files.count, open_memory_files()) == (0, before)


def test_no_file_is_created_for_a_small_body_or_beyond_the_limit() -> None:
    files = MemoryFiles(1)
    assert files.create(BODY[: WORTH_BYTES - 1]) is None
    first = files.create(BODY)
    assert first is not None
    assert files.create(BODY) is None
    del first
    assert files.create(BODY) is not None


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_a_system_without_memory_files_causes_no_error_and_leaves_no_descriptor_open(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    files = MemoryFiles(1)
    gc.collect()
    before = open_memory_files()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        assert files.create(BODY) is None
    assert (files.count, open_memory_files()) == (0, before)
    assert files.create(BODY) is not None


def test_most_descriptors_are_left_for_connections() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < affordable_files() <= min(MOST_FILES, soft // 4)
