"""The access log: fixed fields, never blocking, complete when closed."""

import json
import os
import time
from pathlib import Path

import pytest

from orchestrator import metrics
from orchestrator.web import access_log
from orchestrator.web.access_log import (
    FIELDS,
    AccessLog,
    AccessRecord,
    format_line,
    open_access_log,
)
from tests.support.patience import patience

ACCESS = AccessRecord(
    asset="1/1/é",
    version=3,
    request_class="tile",
    canonical="full/max/0/default.jpg",
    tier="disk",
    status=200,
    bytes=12,
    ms=1.26,
    method="GET",
    target='/a"b\\c\x7f',
)


def test_a_line_is_json_with_the_documented_fields_in_order() -> None:
    line = json.loads(format_line(ACCESS, 'id"1', 1_700_000_000.25))
    assert tuple(line) == FIELDS
    assert line["time"] == "2023-11-14T22:13:20.250Z"
    assert line["requestId"] == 'id"1'
    assert line["target"] == '/a"b\\c\x7f'
    assert line["ms"] == 1.3


def test_the_document_names_each_field_and_no_other() -> None:
    text = Path("docs/access-log.md").read_text()
    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert tuple(documented) == FIELDS


def test_ten_thousand_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    for number in range(10_000):
        log.write(b"%d\n" % number)
    log.close()
    lines = (tmp_path / "log").read_text().split()
    assert lines == [str(number) for number in range(10_000)]


def test_a_single_line_is_written_soon_without_a_second_one(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    for _ in range(20):
        size = (tmp_path / "log").stat().st_size
        log.write(b"x\n")
        end = time.monotonic() + 5 * patience()
        while (tmp_path / "log").stat().st_size == size and time.monotonic() < end:
            time.sleep(0.002)
        assert (tmp_path / "log").stat().st_size == size + 2
    log.close()


def test_after_a_reopen_lines_go_to_a_new_file_of_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path))
    log.write(b"old\n")
    while not path.stat().st_size:
        time.sleep(0.002)
    path.rename(tmp_path / "log.1")
    log.reopen()
    while not path.exists():
        time.sleep(0.002)
    log.write(b"new\n")
    log.close()
    assert (tmp_path / "log.1").read_bytes() == b"old\n"
    assert path.read_bytes() == b"new\n"


def test_a_failed_reopen_is_logged_and_the_log_continues_in_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    log = AccessLog(str(folder / "log"))
    folder.rename(moved)
    log.reopen()
    until = time.monotonic() + 10 * patience()
    while not caplog.records and time.monotonic() < until:
        time.sleep(0.002)
    assert caplog.messages == ["access log not reopened"]
    log.write(b"old file\n")
    while not (moved / "log").stat().st_size and time.monotonic() < until:
        time.sleep(0.002)
    folder.mkdir()
    log.reopen()
    while not (folder / "log").exists() and time.monotonic() < until:
        time.sleep(0.002)
    log.write(b"new file\n")
    log.close()
    assert (moved / "log").read_bytes() == b"old file\n"
    assert (folder / "log").read_bytes() == b"new file\n"


def test_a_full_buffer_drops_and_counts_and_never_waits(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe))
    before = metrics.ACCESS_LOG_DROPPED._value.get()
    line = b"x" * 200 + b"\n"
    limit = access_log.CHUNK_LINES * access_log.MAX_CHUNKS
    started = time.perf_counter()
    for _ in range(limit * 2):  # no process reads: the pipe holds 64 KB, the buffer its limit
        log.write(line)
    assert time.perf_counter() - started < 10
    assert metrics.ACCESS_LOG_DROPPED._value.get() > before
    os.close(reader)  # the rest meets a broken pipe, which is counted, too
    log.close()


def test_off_is_no_log() -> None:
    assert open_access_log("off") is None


def test_a_close_during_the_join_of_lines_is_not_lost(tmp_path: Path) -> None:
    for turn in range(40):
        log = AccessLog(str(tmp_path / f"log-{turn}"))
        log.write(b"a line\n")
        time.sleep(turn / 1000)  # at every moment of the writing thread's round
        log.close()
        assert (tmp_path / f"log-{turn}").read_bytes() == b"a line\n"
