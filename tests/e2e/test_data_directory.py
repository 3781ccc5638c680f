"""A data directory that cannot be written: one line that says how to mend it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serve_process import COMMAND, free_port
from tests.support.small_disks import mounted

OTHER = 65534
NAME = pwd.getpwuid(OTHER).pw_name


def serve(data: Path, *, uid: int | None = None) -> list[str]:
    """Run `serve`, which must fail; the lines that it prints."""
    ports = ["--port", str(free_port()), "--private-port", str(free_port())]
    done = subprocess.run(
        [str(COMMAND), "serve", "--data", str(data), *ports],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    assert done.returncode == 1, done.stderr
    return (done.stdout + done.stderr).splitlines()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "size=1m,ro") as at:
        yield at


@pytest.mark.parametrize("name", ["", "data"], ids=["the directory", "its parent"])
def test_a_read_only_data_directory_is_one_line(read_only: Path, name: str) -> None:
    (line,) = serve(read_only / name)
    assert line == (
        f"orchestrator: {read_only} is on a read-only file system. "
        "Mount it for writing, or choose another directory with --data."
    )


def test_a_file_in_place_of_the_data_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    (line,) = serve(tmp_path / "data")
    assert "is not a directory" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize("part", ["", "secrets", "cache/derivatives", "instance.lock"])
def test_a_data_directory_of_another_user_is_one_line(tmp_path: Path, part: str) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    data = tmp_path / "data"
    data.mkdir()
    if part:
        for folder in (data, *(data / part).parents):
            if folder.is_relative_to(data):
                folder.mkdir(exist_ok=True)
                os.chown(folder, OTHER, OTHER)
        (data / part).touch() if "." in part else (data / part).mkdir(mode=0o700)
    lines = serve(data, uid=OTHER)
    assert len(lines) == 1, lines
    assert f"{data / part} belongs to root, and this process runs as {NAME}" in lines[0]
    assert f"run chown -R {NAME} {data} as root" in lines[0]
