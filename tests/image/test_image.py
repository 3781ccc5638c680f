"""The container image: built from the Dockerfile and run, without a registry of images (`make
image-test`). Needs root.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.corpus.questions import Questions
from tests.e2e.test_upload_commands import RULES, SECRET, counts, fill, picture
from tests.support.patience import patience
from tests.support.samples import list_samples
from tests.support.serve_process import Reply, fetch, free_port, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
NAME = "localhost/orchestrator-test"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "orchestrator-image"
BUILDAH = ["buildah", "--root", f"{CACHE}/root", "--runroot", f"{CACHE}/run"]
BUILDAH += ["--storage-driver", "vfs"]
MAX_MB = 480
USER = 10001


def buildah(*words: str | Path) -> str:
    done = subprocess.run(
        [*BUILDAH, *map(str, words)], check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass
class Container:
    """A container of the image; its processes have the network of this machine."""

    name: str
    home: Path
    config: dict[str, Any]
    env: dict[str, str]
    port: int
    private_port: int

    def command(self, *words: str) -> list[str]:
        """The command line that runs `words` in the container, as `docker exec` would."""
        env = [word for pair in self.env.items() for word in ("--env", "=".join(pair))]
        mount = ["--volume", f"{self.home}:{self.home}", "--volume", f"{self.home}/data:/data"]
        run = ["run", "--isolation", "chroot", "--user", self.config["User"], *env, *mount]
        return [*BUILDAH, *run, self.name, "--", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=600
        )

    def fetch(self, path: str, **headers: str) -> Reply:
        return fetch(f"http://127.0.0.1:{self.port}{path}", **headers)

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the entry point and the command of the image until the end of the block."""
        words = [*self.config["Entrypoint"], *self.config["Cmd"], *arguments]
        with (self.home / "log").open("wb") as log:
            process = subprocess.Popen(
                self.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_until(lambda: self._is_ready(process), "the container is ready", timeout_s=180)
            yield process
        finally:
            process.terminate()  # the processes in the container outlive a killed buildah
            process.wait(timeout=60 * patience())

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.home / "log").read_text()
        try:
            return self.fetch("/health/ready").status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The configuration of the image, which is built first."""
    subprocess.run([ROOT / "scripts" / "build-image.sh", NAME], check=True, timeout=3000)
    document: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", NAME))
    return dict(document["Docker"]["config"])


@pytest.fixture(scope="module")
def container(
    config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """A container with the samples in a folder, and with uploads configured."""
    home = tmp_path_factory.mktemp("image")
    for name in ("pictures", "incoming", "active", "temp", "data", "old"):
        (home / name).mkdir()
    for sample in list_samples():
        shutil.copy(sample.path, home / "pictures")
    for path in [home, *home.rglob("*")]:
        os.chown(path, USER, USER)
    for folder in home.parents:  # pytest's own folders are closed to others
        if folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    port, private_port = free_port(), free_port()
    env = {
        "ORCHESTRATOR_SERVER__PORT": str(port),
        "ORCHESTRATOR_SERVER__PRIVATE_PORT": str(private_port),
        "ORCHESTRATOR_CACHE__FREE_SPACE_FLOOR": "0",
        "STORAGE_BACKEND": "local",
        "TEMP_FOLDER": f"{home}/temp",
        "INCOMING_FOLDER": f"{home}/incoming",
        "ACTIVE_FOLDER": f"{home}/active",
        "API_SECRET_KEY": SECRET,
        "RESIZING_CONFIG": json.dumps(RULES),
        "HOME": "/home/orchestrator",
    }
    name = buildah("from", NAME)
    try:
        yield Container(name, home, config, env, port, private_port)
    finally:
        buildah("rm", name)


def test_the_image_is_small_and_runs_as_an_unprivileged_user(config: dict[str, Any]) -> None:
    listed = json.loads(buildah("images", "--json", NAME))
    sizes = [each["size"] for each in listed if f"{NAME}:latest" in each["names"]]
    print("size of the image:", sizes)
    number, unit = sizes[0].split()
    assert unit == "MB"
    assert float(number) < MAX_MB
    assert config["User"] == str(USER)
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}


def test_the_image_has_certificates_and_none_of_this_machine(container: Container) -> None:
    script = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    assert int(container.run("python3", "-c", script).stdout) > 100
    root = Path(buildah("mount", container.name))
    try:
        for mounted in ("run/registries.crt", "etc/pip.conf", "root/.npmrc"):
            path = root / mounted  # buildah leaves an empty file where it mounted one
            assert not path.exists() or path.stat().st_size == 0, mounted
        assert not (root / "src").exists()
    finally:
        buildah("umount", container.name)


def test_the_image_serves_ingests_and_runs_the_commands_of_the_documents(
    container: Container,
) -> None:
    home = container.home
    with container.serving(str(home / "pictures")) as process:
        _every_sample_is_answered(container)
        _a_picture_is_ingested(container)
        _uploads_work(container)
        health = container.run(*container.config["Healthcheck"]["Test"][1:])
        assert health.returncode == 0, health.stderr
        doctor = container.run("orchestrator", "doctor")
        assert doctor.returncode == 0, doctor.stdout
        _old_pictures_are_migrated(container)
        assert not [line for line in (home / "log").read_text().splitlines() if "Traceback" in line]
        _supervisor(home).send_signal(signal.SIGTERM)  # buildah does not pass it on
        assert process.wait(timeout=60 * patience()) == 0


def _supervisor(home: Path) -> psutil.Process:
    """The first process in the container."""
    words = ("serve", str(home / "pictures"))
    found = {
        process.pid: process
        for process in psutil.process_iter(["cmdline"])
        if tuple((process.info["cmdline"] or [])[-2:]) == words
        and "python" in process.info["cmdline"][0]
    }
    return next(each for each in found.values() if each.ppid() not in found)


def _every_sample_is_answered(container: Container) -> None:
    listed = container.fetch("/?limit=1000", Accept="application/json").json
    assert not listed.get("refused"), listed["refused"]
    assert len(listed["images"]) == len(list_samples())
    questions = Questions(f"http://127.0.0.1:{container.port}", slack=2)
    for sample in list_samples():
        answers = questions.ask(f"1%2F1%2F{sample.name}", sample.expected, "sample")
        assert not (answers.faults or answers.server_errors or answers.refused), answers


def _a_picture_is_ingested(container: Container) -> None:
    key = container.run("orchestrator", "keys", "create", "1", "--json")
    assert key.returncode == 0, key.stderr
    token = json.loads(key.stdout)["token"]
    folder = container.home / "pictures"
    done = container.run("orchestrator", "ingest", str(folder / "j_progressive.jpg"), "--json")
    assert done.returncode == 0, done.stderr
    private = f"http://127.0.0.1:{container.private_port}"
    space = fetch(f"{private}/customers/1/spaces/1/images", Authorization=f"Bearer {token}")
    assert space.status == 200, space.body


def _uploads_work(container: Container) -> None:
    base = f"http://127.0.0.1:{container.port}"
    (container.home / "one.jpg").write_bytes(picture(7))
    sent = _curl(f"{base}/upload", "-F", f"file=@{container.home}/one.jpg")
    assert sent["success"], sent
    published = _curl(f"{base}/publish", "-d", f"filename={sent['filename']}")
    assert published["success"], published
    stem = sent["filename"].removesuffix(".jpg")
    assert container.fetch(f"/active/{stem}SI.jpg").status == 200
    assert container.fetch(f"/iiif/3/1%2F1%2F{stem}/info.json").status == 200
    resized = container.run("resize", "--force")
    assert counts(resized.stdout) == (1, 0, 1, 0), resized


def _curl(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        ["curl", "-s", "-H", f"Authorization: Bearer {SECRET}", *words],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout))


def _old_pictures_are_migrated(container: Container) -> None:
    assert "--originals" in container.run("migrate", "--help").stdout
    assert "--force" in container.run("resize", "--help").stdout
    names = [f"{1_000_000_000 + each}_{each}.jpg" for each in range(5)]
    for each, name in enumerate(names[:4]):
        (container.home / "old" / name).write_bytes(picture(each))
    # In the database server of the container, which its unprivileged user reaches.
    server = f"postgresql://postgres@/postgres?host={container.home}/data/postgres"
    dsn = asyncio.run(fill(server, [(name, False) for name in names]))
    container.env["V5_DATABASE_URL"] = dsn
    migrated = container.run("migrate", "--originals", str(container.home / "old"))
    assert migrated.stdout, migrated.stderr
    assert counts(migrated.stdout) == (5, 0, 4, 1), migrated
    again = container.run("migrate", "--originals", str(container.home / "old"))
    assert again.stdout, again.stderr
    assert counts(again.stdout) == (5, 4, 0, 1), again
