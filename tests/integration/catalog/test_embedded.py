"""The embedded PostgreSQL: the first user starts it, the last stops it, kills lose no data."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from orchestrator.catalog.embedded.database import database, embedded
from orchestrator.errors import CatalogUnavailable
from orchestrator.settings import Database, Server, Settings
from tests.support.patience import patience
from tests.support.process_table import is_alive
from tests.support.serve_process import wait_until

USER = """
import sys, time
from pathlib import Path
from orchestrator.catalog.embedded.database import embedded
with embedded(Path(sys.argv[1])) as server:
    print(server.dsn, flush=True)
    sys.stdin.readline()
"""


def ask(dsn: str, query: str = "SELECT 1") -> object:
    async def work() -> object:
        connection = await asyncpg.connect(dsn, timeout=10 * patience())
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(work())


def server_pid(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", USER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_server_starts_again_with_the_same_data(tmp_path: Path) -> None:
    with embedded(tmp_path) as server:
        pid = server_pid(tmp_path)
        ask(server.dsn, "CREATE TABLE numbers (x int)")
    assert not is_alive(pid)
    with embedded(tmp_path) as server:
        assert ask(server.dsn, "SELECT count(*) FROM numbers") == 0
    assert not is_alive(pid)


def test_only_the_owner_can_connect_and_only_over_a_socket(tmp_path: Path) -> None:
    with embedded(tmp_path) as server:
        assert ask(server.dsn, "SHOW listen_addresses") == ""
        assert ask(server.dsn, "SELECT current_setting('server_encoding')") == "UTF8"
        mode = (tmp_path / "postgres" / ".s.PGSQL.5432").stat().st_mode
        assert mode & 0o077 == 0
        assert (tmp_path / "postgres").stat().st_mode & 0o077 == 0


def test_the_last_of_several_users_stops_the_server(tmp_path: Path) -> None:
    with another_process(tmp_path) as other:
        assert other.stdout is not None
        dsn = other.stdout.readline().strip()
        with embedded(tmp_path) as server:
            assert server.dsn == dsn
            pid = server_pid(tmp_path)
        assert is_alive(pid)
        assert ask(dsn) == 1
        other.communicate("\n", timeout=20 * patience())
    assert not is_alive(pid)


def test_processes_that_start_at_the_same_time_share_one_server(tmp_path: Path) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(another_process(tmp_path)) for _ in range(5)]
        addresses = {other.stdout.readline().strip() for other in others if other.stdout}
        pid = server_pid(tmp_path)
        assert len(addresses) == 1
        assert ask(addresses.pop()) == 1
        for other in others:
            other.communicate("\n", timeout=30 * patience())
            assert other.returncode == 0
    assert not is_alive(pid)


def test_the_next_user_stops_the_server_of_a_killed_user(tmp_path: Path) -> None:
    with another_process(tmp_path) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
        other.wait()
    pid = server_pid(tmp_path)
    assert is_alive(pid)
    with embedded(tmp_path) as server:
        assert ask(server.dsn) == 1
        assert server_pid(tmp_path) == pid
    assert not is_alive(pid)


def test_the_data_survives_when_server_and_user_are_killed(tmp_path: Path) -> None:
    with another_process(tmp_path) as other:
        assert other.stdout is not None
        dsn = other.stdout.readline().strip()
        ask(dsn, "CREATE TABLE numbers AS SELECT 7 AS x")
        pid = server_pid(tmp_path)
        os.kill(pid, signal.SIGKILL)
        other.kill()
        other.wait()
    wait_until(lambda: not is_alive(pid), "the killed server has ended")
    assert (tmp_path / "postgres" / "postmaster.pid").exists()
    with embedded(tmp_path) as server:
        assert ask(server.dsn, "SELECT x FROM numbers") == 7


def test_a_stale_pid_file_with_the_number_of_another_process_is_ignored(
    tmp_path: Path,
) -> None:
    with embedded(tmp_path):
        text = (tmp_path / "postgres" / "postmaster.pid").read_text()
    lines = text.splitlines()
    lines[0] = str(os.getpid())
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(lines))
    with embedded(tmp_path) as server:
        assert ask(server.dsn) == 1
        assert server_pid(tmp_path) != os.getpid()


@pytest.mark.parametrize("pause_s", [0.05, 0.15, 0.3, 0.5, 0.7])
def test_the_server_starts_after_initdb_was_killed(tmp_path: Path, pause_s: float) -> None:
    with another_process(tmp_path) as other:
        time.sleep(pause_s)
        other.kill()
        other.wait()
    with embedded(tmp_path) as server:
        assert ask(server.dsn) == 1
    assert not list(tmp_path.glob("postgres.new-*"))


def test_a_server_that_dies_is_started_again_on_request_at_the_same_address(
    tmp_path: Path,
) -> None:
    with embedded(tmp_path) as server:
        dsn = server.dsn
        assert not server.revive()
        os.kill(server_pid(tmp_path), signal.SIGKILL)
        while is_alive(server_pid(tmp_path)):
            time.sleep(0.01)
        assert server.revive()
        assert server.dsn == dsn
        assert ask(dsn) == 1


@pytest.mark.parametrize("name", ["x" * 120, "with space, comma & caf\u00e9"], ids=["long", "odd"])
def test_a_folder_whose_path_no_socket_can_have_works(tmp_path: Path, name: str) -> None:
    with embedded(tmp_path / name) as server:
        assert ask(server.dsn) == 1


def test_two_data_folders_have_two_servers(tmp_path: Path) -> None:
    with embedded(tmp_path / "a") as one, embedded(tmp_path / "b") as other:
        ask(one.dsn, "CREATE TABLE only_here (x int)")
        assert ask(other.dsn, "SELECT to_regclass('only_here')") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives itself another account")
def test_as_root_only_the_account_of_the_server_may_pass_the_folders_above(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with embedded(closed / "data") as server:
        assert ask(server.dsn) == 1
        owner = (closed / "data" / "postgres").stat().st_uid
    assert owner != 0
    other_account = subprocess.run(
        ["ls", closed / "data"], user=65534, group=65534, extra_groups=[], capture_output=True
    )
    assert other_account.returncode != 0
    assert closed.stat().st_mode & 0o007 == 0


def test_a_configured_database_is_used_unchanged(tmp_path: Path) -> None:
    settings = Settings(
        server=Server(data_dir=tmp_path), database=Database(dsn=SecretStr("postgresql://x/y"))
    )
    with database(settings) as found:
        assert found == settings
    assert not (tmp_path / "postgres").exists()


def test_without_a_configured_database_the_settings_get_the_embedded_one(tmp_path: Path) -> None:
    settings = Settings(server=Server(data_dir=tmp_path))
    with database(settings) as found:
        assert ask(found.database.dsn.get_secret_value()) == 1
        assert found.storage == settings.storage


def test_a_folder_that_is_not_a_database_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "precious").write_text("mine")
    with pytest.raises(CatalogUnavailable), embedded(tmp_path):
        pass
    assert (tmp_path / "postgres" / "precious").read_text() == "mine"
