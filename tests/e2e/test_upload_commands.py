"""`orchestrator uploads resize|migrate|check|expire|token`, and the commands of the image."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import asyncpg
import pytest
from PIL import Image

from tests.e2e.conftest import Done, run_command
from tests.support.http_server import respond, run_http_server
from tests.support.patience import PATIENT_DATABASE
from tests.support.serve_process import COMMAND
from tests.support.server_fixtures import S3Server, new_database
from tests.support.weed import BUCKET, CREDENTIALS, PUBLIC_BUCKET

pytestmark = pytest.mark.timeout(1800)
SECRET = "a-secret-for-publishing"
RULES = [
    {"suffix": "BI", "convert": ["-resize", "30x30>", "-quality", "80"]},
    {"suffix": "SI", "convert": ["-resize", "10x10^", "-gravity", "center", "-extent", "10x10"]},
]
SUMMARY = re.compile(r"Images: (\d+), skipped: (\d+), processed: (\d+), errors: (\d+)")
CONTAINER = Path(__file__).parents[2] / "scripts" / "container"


@dataclass
class Installation:
    """An installation of uploads without a running server."""

    folder: Path
    env: dict[str, str]

    def run(self, *words: object, **env: str) -> Done:
        return run_command(
            "uploads",
            *words,
            "--data",
            self.folder / "data",
            env={**self.env, **env},
            timeout_s=800,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(COMMAND), "uploads", *words, "--data", str(self.folder / "data")],
            env={**_environment(), **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def active(self) -> Path:
        return self.folder / "active"

    def published(self) -> set[str]:
        return {path.name for path in self.active.iterdir() if not path.name.startswith(".")}


def _environment() -> dict[str, str]:
    others = {
        name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")
    }
    return others | PATIENT_DATABASE


@pytest.fixture
def installation(postgres: str, tmp_path: Path) -> Installation:
    for name in ("incoming", "active", "temp"):
        (tmp_path / name).mkdir()
    return Installation(
        tmp_path,
        {
            "ORCHESTRATOR_DATABASE__DSN": asyncio.run(new_database(postgres)),
            "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0",
            "STORAGE_BACKEND": "local",
            "TEMP_FOLDER": str(tmp_path / "temp"),
            "INCOMING_FOLDER": str(tmp_path / "incoming"),
            "ACTIVE_FOLDER": str(tmp_path / "active"),
            "API_SECRET_KEY": SECRET,
            "RESIZING_CONFIG": json.dumps(RULES),
        },
    )


def picture(number: int, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 36), (number % 256, number // 256, 90)).save(buffer, form)
    return buffer.getvalue()


def counts(done: Done | str) -> tuple[int, ...]:
    """The numbers of the last line."""
    last = (done if isinstance(done, str) else done.out).strip().splitlines()[-1]
    match = SUMMARY.fullmatch(last)
    assert match, done
    return tuple(int(group) for group in match.groups())


@contextmanager
def old_system(pictures: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A web server with originals; its address and what was requested. Some answers fail once."""
    requested: list[str] = []
    lock = threading.Lock()

    def handle(request: BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        with lock:
            first = name not in requested
            requested.append(name)
        if name.startswith("7_") and first:
            request.send_error(503)
        elif name in pictures:
            respond(request, "image/jpeg", pictures[name])
        else:
            request.send_error(404)

    with run_http_server(handle) as port:
        yield f"http://127.0.0.1:{port}/images", requested


async def fill(postgres: str, rows: list[tuple[str | None, bool]]) -> str:
    """A database of the replaced system with these rows; its address."""
    dsn = await new_database(postgres, schema=False)
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        """CREATE TABLE app_images_archives (
               document_archive_id serial PRIMARY KEY, filename varchar(30), has_svg boolean)"""
    )
    await connection.copy_records_to_table(
        "app_images_archives", records=rows, columns=["filename", "has_svg"]
    )
    await connection.close()
    return dsn


@pytest.mark.parametrize(
    "number", [80, pytest.param(2000, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_a_migration_that_is_killed_is_repeated_until_all_is_there(
    postgres: str, installation: Installation, number: int
) -> None:
    names = [f"{1_000_000_000 + each}_{each}.jpg" for each in range(number)]
    names[:3] = ["7_1.jpg", "7_2.jpg", "7_3.jpg"]  # the server answers 503 at first
    missing, broken = names[10:20], names[20:30]
    pictures = {name: picture(each) for each, name in enumerate(names) if name not in missing}
    pictures |= dict.fromkeys(broken, b"<html>not a picture</html>")
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"><script/></svg>'
    svg = names[40]
    pictures[svg.replace(".jpg", ".svg")] = drawing
    rows: list[tuple[str | None, bool]] = [(name, name == svg) for name in names]
    rows += [*rows[:50], (None, False), ("../x.jpg", False), ("photo.jpg", False)]
    v5 = asyncio.run(fill(postgres, rows))
    total = number + 2  # each picture once, and two whose names are not those of pictures
    with old_system(pictures) as (address, requested):
        words = ["migrate", "--originals", address, "-j", "4", "-p", "50"]
        installation.env["V5_DATABASE_URL"] = v5
        process = installation.start(*words)
        deadline = time.monotonic() + 300
        while len(installation.published()) < number and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done_before = sum(
            "BI" not in name and "SI" not in name for name in installation.published()
        )
        assert 0 < done_before < number
        second = installation.run(*words)
        assert second.status == 1
        good, errors = number - 20, 22
        assert counts(second)[0] == total
        assert counts(second)[3] == errors, second.err
        assert sum(counts(second)[1:3]) == good
        # At most those that were in progress when the first run was killed are done again.
        assert counts(second)[1] >= done_before - 8
        before = len(requested)
        third = installation.run(*words)
        assert counts(third) == (total, good, 0, errors)
        # Only what is missing or broken is requested again, and nothing of it more than thrice.
        assert len(requested) - before <= 20 * 3
    expected = set()
    for name in names:
        base, extension = name.split(".")
        if name not in missing and name not in broken:
            extension = "svg" if name == svg else extension
            expected |= {f"{base}.{extension}", f"{base}BI.jpg", f"{base}SI.jpg"}
    assert installation.published() == expected
    assert b"script" not in (installation.active / svg.replace("jpg", "svg")).read_bytes()
    assert installation.run("check").status == 0
    assert list((installation.folder / "incoming").iterdir()) == []


def test_a_folder_is_migrated_and_missing_versions_are_made(installation: Installation) -> None:
    old = installation.folder / "old"
    old.mkdir()
    names = [f"{each}_{each}.png" for each in range(1, 7)]
    for each, name in enumerate(names):
        (old / name).write_bytes(picture(each, "PNG"))
    (old / "notes.txt").write_text("no picture")
    words = ["migrate", "--originals", str(old), "--list"]
    assert counts(installation.run(*words, "-l", "3")) == (3, 0, 3, 0)
    (installation.active / "1_1BI.png").unlink()
    (installation.active / "2_2.png").unlink()
    (installation.active / "9_9BI.png").write_bytes(b"x")
    check = installation.run("check", "--json")
    assert check.status == 1
    assert check.json["missing_versions"] == ["1_1BI.png"]
    assert check.json["missing_originals"] == ["2_2.png"]
    assert check.json["orphans"] == ["9_9BI.png"]
    (installation.active / "9_9BI.png").unlink()
    done = installation.run(*words)
    assert (done.status, counts(done)) == (1, (7, 1, 5, 1))
    assert installation.run("check").out == "6 published, 0 incoming\n"


def test_versions_are_made_again_when_the_rules_change(installation: Installation) -> None:
    for each in range(1, 6):  # published by the replaced system
        (installation.active / f"{each}_{each}.jpg").write_bytes(picture(each))
    (installation.active / "6_6.jpg").write_bytes(b"no picture")
    first = installation.run("resize", "-j", "2")
    assert (first.status, counts(first)) == (1, (6, 0, 5, 1))
    assert "6_6.jpg" in first.err
    (installation.active / "6_6.jpg").unlink()
    again = installation.run("resize", "--json")
    assert again.status == 0
    assert {**again.json, "seconds": 0} == {
        "total": 5, "skipped": 5, "processed": 0, "errors": 0, "seconds": 0,
    }  # fmt: skip
    changed = json.dumps([{"suffix": "BI", "convert": ["-resize", "20x20>"]}])
    one = installation.run("resize", "-f", "-k", "3_3.jpg", RESIZING_CONFIG=changed)
    assert counts(one) == (1, 0, 1, 0)
    done = installation.run("resize", "-p", "2", "-v", RESIZING_CONFIG=changed)
    assert counts(done) == (5, 1, 4, 0)
    assert "4 of 5" in done.err
    with Image.open(installation.active / "1_1BI.jpg") as version:
        assert version.size == (20, 15)
    queued = installation.run("resize", "--queue", "-f", "-l", "3")
    assert (queued.status, queued.out) == (0, "3 jobs recorded\n")


def test_pictures_of_a_bucket_are_migrated_to_a_bucket(
    installation: Installation, s3_server: S3Server, tmp_path: Path
) -> None:
    import botocore.session

    access, secret = CREDENTIALS
    client = botocore.session.get_session().create_client(
        "s3", "us-east-1", endpoint_url=s3_server.endpoint,
        aws_access_key_id=access, aws_secret_access_key=secret,
    )  # fmt: skip
    for each in range(3):
        key = f"old-system/{1_700_000_000 + each}_{each}.jpg"
        client.put_object(Bucket=BUCKET, Key=key, Body=picture(each))
    installation.env |= {
        "STORAGE_BACKEND": "s3",
        "INCOMING_BUCKET": BUCKET,
        "INCOMING_PREFIX": "EXO",
        "ACTIVE_BUCKET": PUBLIC_BUCKET,
        "ACTIVE_PREFIX": "EXO",
        "EXO_ENDPOINT": s3_server.endpoint,
        "EXO_ACCESS_KEY_ID": access,
        "EXO_SECRET_KEY": secret,
        "CACHE_CONTROL": "public, max-age=60",
    }
    words = ["migrate", "--originals", f"s3://{BUCKET}/old-system", "--list"]
    assert counts(installation.run(*words)) == (3, 0, 3, 0)
    assert counts(installation.run(*words)) == (3, 3, 0, 0)
    head = client.head_object(Bucket=PUBLIC_BUCKET, Key="1700000001_1SI.jpg")
    assert (head["ContentType"], head["CacheControl"]) == ("image/jpeg", "public, max-age=60")
    client.close()


def test_what_was_not_published_is_deleted(installation: Installation) -> None:
    (installation.folder / "incoming" / "5_5.jpg").write_bytes(picture(5))
    assert installation.run("expire").out == "0 deleted\n"
    os.utime(installation.folder / "incoming" / "5_5.jpg", (1e9, 1e9))
    assert installation.run("expire", "--older-than", "1h", "--json").json == {"deleted": 1}
    assert list((installation.folder / "incoming").iterdir()) == []


def test_a_token_is_printed(installation: Installation) -> None:
    assert installation.run("token").status == 1
    env = {"ORCHESTRATOR_UPLOADS__TOKEN_SECRETS": json.dumps(["a-secret-of-tokens" * 3])}
    done = installation.run("token", "--expires", "2h", "--json", **env)
    assert done.json["expires_s"] == 7200
    assert done.json["token"].count(".") == 2


@pytest.mark.parametrize("name", ["migrate", "resize"])
def test_the_commands_of_the_replaced_image_exist(installation: Installation, name: str) -> None:
    dockerfile = (CONTAINER.parents[1] / "Dockerfile").read_text()
    assert "COPY scripts/container/ /usr/local/bin/" in dockerfile
    env = _environment() | installation.env
    env["PATH"] = f"{COMMAND.parent}:{env['PATH']}"
    done = subprocess.run(
        [str(CONTAINER / name), "--help"], env=env, capture_output=True, text=True, check=True
    )
    for option in ("--force", "-f", "--jobs", "-j", "-k", "-l", "-p", "-v"):
        assert option in done.stdout


def test_without_uploads_the_commands_say_what_to_set(tmp_path: Path, postgres: str) -> None:
    env = {"ORCHESTRATOR_DATABASE__DSN": asyncio.run(new_database(postgres))}
    done = run_command("uploads", "resize", "--data", tmp_path, env=env)
    assert done.status == 1
    assert "STORAGE_BACKEND" in done.err
