"""The progress of a folder's ingest: one process writes it, another reads it."""

from __future__ import annotations

from orchestrator.progress import ProgressFile, Stage, delete_progress, read_progress


def test_the_stage_written_last_is_read(tmp_path):
    assert read_progress(tmp_path) is None
    write = ProgressFile(tmp_path, "converting")
    write(1, 3)
    assert read_progress(tmp_path) == Stage("converting", 1, 3)
    write(3, 3)
    assert read_progress(tmp_path) == Stage("converting", 3, 3)
    delete_progress(tmp_path)
    assert read_progress(tmp_path) is None


def test_frequent_progress_is_written_rarely_but_the_end_always(tmp_path):
    write = ProgressFile(tmp_path, "reading headers")
    for done in range(1, 1000):
        write(done, 1000)
    assert read_progress(tmp_path).done < 999
    write(1000, 1000)
    assert read_progress(tmp_path).done == 1000


def test_a_torn_file_or_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    write = ProgressFile(tmp_path, "converting")
    write(1, 2)
    (tmp_path / "run" / "progress").write_text("converting\n1")
    assert read_progress(tmp_path) is None
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    ProgressFile(blocked, "converting")(1, 1)
    assert read_progress(blocked) is None
