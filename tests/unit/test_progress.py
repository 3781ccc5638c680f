"""How far a folder is: told by one process, read by another."""

from __future__ import annotations

from orchestrator.progress import Stage, Told, forget, told


def test_what_was_told_last_is_read(tmp_path):
    assert told(tmp_path) is None
    tell = Told(tmp_path, "converting")
    tell(1, 3)
    assert told(tmp_path) == Stage("converting", 1, 3)
    tell(3, 3)
    assert told(tmp_path) == Stage("converting", 3, 3)
    forget(tmp_path)
    assert told(tmp_path) is None


def test_a_busy_worker_writes_few_times_but_always_the_end(tmp_path):
    tell = Told(tmp_path, "reading headers")
    for done in range(1, 1000):
        tell(done, 1000)
    assert told(tmp_path).done < 999
    tell(1000, 1000)
    assert told(tmp_path).done == 1000


def test_a_torn_file_or_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    tell = Told(tmp_path, "converting")
    tell(1, 2)
    (tmp_path / "run" / "progress").write_text("converting\n1")
    assert told(tmp_path) is None
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    Told(blocked, "converting")(1, 1)
    assert told(blocked) is None
