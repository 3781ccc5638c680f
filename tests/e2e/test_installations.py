"""Commands without `--data` work on the installation that runs on this machine, and say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.processes.running_installations import (
    EMBEDDED,
    Installation,
    recorded,
    records_folder,
)
from tests.e2e.conftest import Command
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server


def environment(folder: Path) -> dict[str, str]:
    """The environment of a user whose home directory is empty."""
    return {"HOME": str(folder), "XDG_STATE_HOME": "", "XDG_DATA_HOME": ""}


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[ServeProcess]:
    """An installation without pictures, whose user has the home directory `module_folder`."""
    with run_server(data=module_folder / "data", env=environment(module_folder)) as server:
        yield server
        assert_log_clean(server.log())


def test_a_key_created_without_data_opens_the_running_installation(
    command: Command, server: ServeProcess, module_folder: Path
) -> None:
    env = environment(module_folder)
    made = command("keys", "create", "1", "--json", env=env)
    assert made.status == 0, made.err
    assert f"installation: {server.data} (it runs)" in made.err
    assert made.json["installation"] == str(server.data)
    queue = f"{server.private}/customers/1/queue"
    assert fetch(queue, Authorization=f"Bearer {made.json['token']}").status == 200
    assert not (module_folder / ".local" / "share").exists()
    text = command("keys", "create", "1", env=env).out
    assert text.splitlines()[-1] == f"stored: {server.data}"


def test_an_empty_list_says_how_to_add_pictures(server: ServeProcess) -> None:
    text = fetch(f"{server.public}/").body.decode()
    listing = fetch(f"{server.public}/", Accept="application/json").json
    assert "No pictures yet" in text
    assert "orchestrator ingest" in text
    assert listing == {"images": [], "next": None}


def test_a_command_says_that_no_installation_runs(command: Command, tmp_path: Path) -> None:
    made = command("token", "create", "--roles", "staff", env=environment(tmp_path))
    default = tmp_path / ".local" / "share" / "orchestrator"
    assert f"installation: {default} (none runs; choose another with --data)" in made.err


def test_a_command_asks_which_of_several_installations_is_meant(
    command: Command, tmp_path: Path
) -> None:
    env = environment(tmp_path)
    folders = [tmp_path / "one", tmp_path / "two"]
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir()
            stack.enter_context(recorded(Installation(folder, EMBEDDED), records_folder(env)))
        refused = command("keys", "create", "1", env=env)
        assert refused.status != 0
        assert f"{folders[0]}, {folders[1]}. Choose one with --data." in refused.err
        chosen = command("token", "create", "--roles", "a", "--data", folders[1], env=env)
        assert (chosen.status, chosen.err) == (0, "")


def test_a_command_without_the_settings_of_the_database_is_refused(
    command: Command, tmp_path: Path
) -> None:
    env = environment(tmp_path)
    (tmp_path / "data").mkdir()
    installation = Installation(tmp_path / "data", "db.example.org/images")
    with recorded(installation, records_folder(env)):
        refused = command("keys", "create", "1", env=env)
    assert refused.status != 0
    assert "database db.example.org/images" in refused.err
