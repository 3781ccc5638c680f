"""Every installed command, on a running installation with two serve processes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.e2e.conftest import Command, Done, run_command
from tests.support import pictures
from tests.support.patience import patience
from tests.support.serve_process import (
    COMMAND,
    ServeProcess,
    assert_log_clean,
    fetch,
    run_server,
    wait_until,
)


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[ServeProcess]:
    for name in ("one", "two", "three"):
        pictures.jpeg(module_folder / f"{name}.jpg", 900, 700)
    with run_server(module_folder, workers=2) as server:
        server.wait_converted(expected=3)
        yield server
        assert_log_clean(server.log())


@pytest.fixture
def on_server(server: ServeProcess) -> Command:
    """Runs a command on the running installation; the command must succeed."""

    def run(*words: object) -> Done:
        done = run_command(*words, "--data", server.data)
        assert done.status == 0, done.err
        return done

    return run


def info(server: ServeProcess, name: str) -> int:
    return fetch(f"{server.public}/iiif/3/{name.replace('/', '%2F')}/info.json").status


def test_images_are_listed_as_a_table_and_as_json(on_server: Command) -> None:
    assert re.search(r"^1/1/one +ready +900 +700", on_server("images", "list").out, re.M)
    rows = on_server("images", "list", "--json").json
    assert {"1/1/one", "1/1/two", "1/1/three"} <= {row["id"] for row in rows}
    assert [row["id"] for row in on_server("images", "list", "--json", "--limit", 1).json] == [
        "1/1/one"
    ]


def test_one_image_is_shown(on_server: Command) -> None:
    row = on_server("images", "show", "1/1/one", "--json").json
    assert (row["width"], row["height"], row["state"]) == (900, 700, "ready")
    assert "900" in on_server("images", "show", "1/1/one").out


def test_an_alias_that_images_set_adds_is_served(on_server: Command, server: ServeProcess) -> None:
    on_server("images", "set", "1/1/one", "--alias", "first-page")
    wait_until(lambda: info(server, "first-page") == 200, "the alias is served", 2)
    assert on_server("images", "show", "first-page", "--json").json["aliases"] == ["first-page"]


def test_a_file_of_aliases_is_added_and_each_line_that_fails_is_named(
    server: ServeProcess, tmp_path: Path
) -> None:
    file = tmp_path / "aliases.tsv"
    file.write_text("two-old\t1/1/two\ntwo-older\t1/1/two\nx\t1/1/missing\ntwo-old\t1/1/three\n")
    done = run_command("images", "alias", file, "--data", server.data)
    assert done.status == 1
    assert "[3/3] failed: 1/1/three: " in done.err
    assert "failed: 1/1/missing: " in done.err
    assert done.out == "aliases of 1 assets\n"
    wait_until(
        lambda: info(server, "two-old") == info(server, "two-older") == 200,
        "both aliases are served",
        2,
    )
    assert info(server, "x") == 404
    again = run_command("images", "alias", file, "--json", "--data", server.data)
    assert (again.status, again.json["assets"], len(again.json["failed"])) == (1, 1, 2)


@pytest.mark.parametrize("text", ["one 1/1/one\n", "\t1/1/one\n", "one\t\n"], ids=ascii)
def test_a_file_that_is_no_list_of_aliases_changes_nothing(
    server: ServeProcess, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "aliases.tsv"
    file.write_text(f"good\t1/1/one\n{text}")
    done = run_command("images", "alias", file, "--data", server.data)
    assert (done.status, done.out) == (1, "")
    assert f"Line 2 of {file} is not an alias, a tab and an id." in done.err
    assert info(server, "good") == 404


class _Cdn(BaseHTTPRequestHandler):
    """Answers 200 to every POST and records the surrogate keys in `purged` of its server."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.purged.append(self.headers["Surrogate-Key"])  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Do not log."""


def test_images_set_purges_the_cdn(server: ServeProcess) -> None:
    with HTTPServer(("127.0.0.1", 0), _Cdn) as cdn:
        cdn.purged = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=cdn.serve_forever)
        thread.start()
        try:
            done = run_command(
                *("images", "set", "1/1/three", "--tags", "a,b", "--data", server.data),
                env={"ORCHESTRATOR_INGEST__PURGE_URL": f"http://127.0.0.1:{cdn.server_port}/"},
            )
        finally:
            cdn.shutdown()
            thread.join()
    assert done.status == 0, done.err
    assert cdn.purged == ["asset-1%2F1%2Fthree"]  # type: ignore[attr-defined]


def test_an_image_ingested_by_the_command_is_served_and_can_be_deleted(
    on_server: Command, server: ServeProcess, tmp_path: Path
) -> None:
    pictures.jpeg(tmp_path / "new.jpg", 640, 480)
    done = on_server(
        "ingest", tmp_path / "new.jpg", "--id", "1/2/new", "--policy", "fastest", "--json"
    ).json
    assert (done["images"][0]["id"], done["ingested"]) == ("1/2/new", 1)
    wait_until(lambda: info(server, "1/2/new") == 200, "the image is served", 12)
    again = on_server(
        "ingest", tmp_path / "new.jpg", "--id", "1/2/new", "--policy", "fastest", "--json"
    ).json
    assert again["unchanged"] == 1
    on_server("images", "reingest", "1/2/new")
    assert info(server, "1/2/new") == 200
    outcomes = [
        one["outcome"] for one in on_server("images", "show", "1/2/new", "--json").json["attempts"]
    ]
    assert outcomes == ["completed", "unchanged", "completed"]
    deleted = on_server("images", "delete", "1/2/new", "--json").json
    assert (deleted["id"], deleted["objects"]) == ("1/2/new", 6)
    assert deleted["bytes"] > 1000
    wait_until(lambda: info(server, "1/2/new") == 404, "the image is gone", 2)


def test_ingest_reports_each_failure_with_its_reason_and_exits_1(
    server: ServeProcess, tmp_path: Path
) -> None:
    pictures.jpeg(tmp_path / "good.jpg", 300, 200)
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:100])
    done = run_command("ingest", tmp_path, "--id", "1/3", "--data", server.data)
    assert done.status == 1
    assert re.search(r"^\[\d/2\] failed: 1/3/bad .+", done.err, re.M)
    assert re.search(r"^\[\d/2\] 1/3/good ingested", done.err, re.M)
    assert re.search(r"1 failed, 1 ingested: .* images/min", done.out)
    assert "Traceback" not in done.err
    shown = run_command("images", "show", "1/3/bad", "--json", "--data", server.data).json
    assert (shown["state"], shown["width"], shown["objects"]) == ("failed", 0, 0)
    [attempt] = shown["attempts"]
    assert (attempt["outcome"], attempt["stage"]) == ("failed", "probe")
    assert attempt["error"] == shown["error"]
    assert "probe" in run_command("images", "show", "1/3/bad", "--data", server.data).out
    assert info(server, "1/3/bad") == 404
    assert info(server, "1/3/good") == 200


def test_two_images_with_one_id_are_refused_before_any_is_ingested(
    server: ServeProcess, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        pictures.jpeg(tmp_path / folder / "same.jpg", 50, 50)
    words = (tmp_path / "a" / "same.jpg", tmp_path / "b" / "same.jpg")
    done = run_command("ingest", *words, "--data", server.data)
    assert (done.status, done.err) == (
        1,
        "orchestrator: Several images would get the id 1/1/same. Ingest each with --id.\n",
    )


def test_an_origin_on_a_private_address_is_refused(server: ServeProcess) -> None:
    done = run_command("ingest", f"{server.public}/x.jpg", "--data", server.data)
    assert done.status == 1
    assert "Traceback" not in done.err


def test_on_a_terminal_ingest_draws_a_bar(server: ServeProcess, tmp_path: Path) -> None:
    pictures.jpeg(tmp_path / "bar.jpg", 200, 100)
    ours, theirs = pty.openpty()
    words = [str(COMMAND), "ingest", str(tmp_path / "bar.jpg"), "--id", "1/4/bar"]
    with subprocess.Popen(
        [*words, "--data", str(server.data)],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            drawn += piece
        assert process.wait(timeout=60 * patience()) == 0
    os.close(ours)
    assert "1/1" in drawn.decode()
    assert "━" in drawn.decode()


def test_customers_and_keys_are_created_listed_and_revoked(
    on_server: Command, server: ServeProcess
) -> None:
    customer = on_server("customers", "create", "museum", "--json").json
    assert {"id": customer["id"], "name": "museum"}.items() <= customer.items()
    names = [row["name"] for row in on_server("customers", "list", "--json").json]
    assert "museum" in names
    key = on_server("keys", "create", customer["id"], "--json").json
    listed = on_server("keys", "list", "--customer", customer["id"], "--json")
    assert [row["id"] for row in listed.json] == [key["id"]]
    assert key["secret"] not in listed.out
    on_server("keys", "revoke", key["id"])
    assert on_server("keys", "list", "--json").json[-1]["revoked"]
    double = run_command("customers", "create", "museum", "--data", server.data)
    assert (double.status, double.err.count("\n")) == (1, 1)


def test_a_token_has_the_given_roles_and_duration(on_server: Command, server: ServeProcess) -> None:
    token = on_server(
        "token", "create", "--roles", "staff, press", "--expires", "12h", "--json"
    ).json
    assert (token["roles"], token["expires_s"]) == (["staff", "press"], 43200)
    plain = on_server("token", "create", "--roles", "staff").out.strip()
    assert plain.count(".") == 2
    bad = run_command("token", "create", "--roles", "x", "--expires", "soon", "--data", server.data)
    assert (bad.status, bad.err) == (
        1,
        "orchestrator: --expires soon is not a duration. Write 30m, 12h or 7d.\n",
    )


def test_caches_are_counted_verified_scavenged_and_cleared(
    on_server: Command, server: ServeProcess
) -> None:
    tile = f"{server.public}/iiif/3/1%2F1%2Ftwo/0,0,256,256/128,/0/default.png"
    assert fetch(tile).status == 200
    wait_until(
        lambda: on_server("cache", "stats", "--json").json[0]["files"] > 0, "the tile is counted", 5
    )
    assert all(row["sound"] for row in on_server("cache", "verify", "--json").json)
    on_server("scavenge", "--dry-run")
    on_server("scavenge", "--json")
    on_server("cache", "clear")
    assert on_server("cache", "stats", "--json").json[0]["files"] == 0
    assert fetch(tile).status == 200


def test_a_served_database_has_all_migrations(on_server: Command) -> None:
    assert on_server("db", "migrate", "--json").json == {"applied": []}


def test_doctor_finds_no_problem_in_a_running_installation(on_server: Command) -> None:
    findings = {row["check"]: row["status"] for row in on_server("doctor", "--json").json}
    assert set(findings) == {
        "libvips",
        "decode workers",
        "grok",
        "storage",
        "ico",
        "pyramids",
        "uploads",
        "database",
        "queue",
        "image server",
        "identity provider",
        "disk",
        "open files",
        "page",
        "ports",
        "origin strategies",
    }
    assert "broken" not in findings.values()


def test_doctor_names_the_setting_that_repairs_a_problem(
    command: Command, server: ServeProcess
) -> None:
    env = {
        "ORCHESTRATOR_IMAGE_SERVER__KIND": "iipimage",
        "ORCHESTRATOR_IMAGE_SERVER__ADDRESSES": "http://127.0.0.1:9",
    }
    done = command("doctor", "--json", "--data", server.data, env=env)
    assert done.status == 1
    (broken,) = [row for row in done.json if row["status"] == "broken"]
    assert broken["check"] == "image server"
    assert "image_server.addresses" in broken["mend"]


def test_config_show_masks_secrets_and_shows_where_values_come_from(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text('[auth]\ntoken_secret = "hunter2"\n')
    env = {"ORCHESTRATOR_SERVER__PORT": "9000"}
    shown = command("config", "show", "--config", tmp_path / "my.toml", "--json", env=env)
    rows = {row["setting"]: row for row in shown.json}
    assert rows["auth.token_secret"]["value"] == "***"
    assert rows["auth.token_secret"]["from"] == f"{tmp_path / 'my.toml'}:2"
    assert rows["server.port"] == {
        "setting": "server.port",
        "value": 9000,
        "from": "ORCHESTRATOR_SERVER__PORT",
    }
    assert "hunter2" not in shown.out


def test_config_check_reports_every_fault_with_its_line(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[server]\nprot = 1\nworkers = 0\n")
    done = command("config", "check", "--config", file)
    assert done.status == 1
    assert done.err.splitlines()[0] == (
        f"orchestrator: {file}:2: server.prot is not a setting; did you mean server.port?"
    )
    assert f"{file}:3: server.workers" in done.err
    assert command("config", "check").status == 0


def test_the_file_of_all_defaults_is_a_valid_settings_file(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "all.toml"
    file.write_text(command("config", "show", "--default").out)
    assert command("config", "check", "--config", file).status == 0


@pytest.mark.parametrize(
    "words", [("fly",), ("serve", "--port", "x"), ("images", "list", "--limit", "0")]
)
def test_wrong_usage_exits_2(command: Command, words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.status == 2
    assert "Traceback" not in done.err


def test_a_missing_folder_is_reported_in_one_line(command: Command, tmp_path: Path) -> None:
    done = command("serve", tmp_path / "none", "--data", tmp_path / "data")
    assert (done.status, done.err.count("\n")) == (1, 1)


def test_a_missing_asset_is_reported_in_one_line(server: ServeProcess) -> None:
    done = run_command("images", "show", "1/1/nothing", "--data", server.data)
    assert (done.status, done.err.count("\n")) == (1, 1)


def test_a_second_instance_on_the_same_data_is_refused(server: ServeProcess) -> None:
    done = run_command("serve", "--port", 0, "--private-port", 0, "--data", server.data)
    assert done.status == 1
    assert f"is in use by process {server.process.pid}" in done.err


def test_a_second_instance_on_the_same_port_is_refused(
    server: ServeProcess, tmp_path: Path
) -> None:
    port = server.public.rpartition(":")[2]
    done = run_command("serve", "--port", port, "--private-port", 0, "--data", tmp_path / "other")
    assert done.status == 1
    assert "--port" in done.err
