"""A real S3 server (SeaweedFS, from its PyPI wheel) on free loopback ports, with two buckets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.patience import patience
from tests.support.serve_process import free_port

BUCKET = "pictures"
PUBLIC_BUCKET = "public-pictures"
"""A bucket that anonymous clients may read; writing needs CREDENTIALS."""
CREDENTIALS = ("testing-access", "testing-secret")
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "s3.port.lance",
)


class WeedServer:
    """A running server. `endpoint` is `http://127.0.0.1:P`."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
        self.process, self.endpoint = process, endpoint
        self._log = log

    def restart(self) -> None:
        """Kill the server and start it again, with its data, at the same endpoint."""
        self.process.kill()
        self.process.wait()
        self.process = _run(self.process.args, self._log)


@contextmanager
def weed(folder: Path) -> Iterator[str]:
    """Run the server with its data in `folder`; yields the endpoint."""
    with weed_server(folder) as server:
        yield server.endpoint


@contextmanager
def weed_server(folder: Path) -> Iterator[WeedServer]:
    """Run the server with its data in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    access, secret = CREDENTIALS
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    anonymous = {"name": "anonymous", "actions": [f"Read:{PUBLIC_BUCKET}"]}
    configuration = folder / "s3.json"
    configuration.write_text(json.dumps({"identities": [identity, anonymous]}))
    server = WeedServer(*_start(folder, configuration), folder / "log")
    try:
        yield server
    finally:
        _stop(server.process)


def _start(folder: Path, configuration: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server; returns its process and its endpoint. Another process can take one of its
    ports before it listens, so it is started up to three times.
    """
    for attempts_left in (2, 1, 0):
        ports = {name: free_port() for name in _PORTS}
        words = [
            str(Path(sys.executable).with_name("weed")),
            "server",
            f"-dir={folder}",
            "-s3",
            "-filer",
        ]
        words += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={configuration}"]
        words += ["-volume.max=1000", "-master.volumeSizeLimitMB=256", "-master.telemetry=false"]
        words += [f"-{name}={port}" for name, port in ports.items()]
        process = _run(words, folder / "log")
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            _make_bucket(endpoint, process, folder / "log")
        except TimeoutError:
            _stop(process)
            if not attempts_left:
                raise
        else:
            return process, endpoint
    raise AssertionError


def _run(words: Any, log_path: Path) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def s3_client(endpoint: str) -> Any:
    """Return a client with the server's credentials; the caller closes it."""
    access, secret = CREDENTIALS
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )


def _make_bucket(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = s3_client(endpoint)
    deadline = time.monotonic() + 60 * patience()
    try:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(BotoCoreError, ClientError):
                client.create_bucket(Bucket=BUCKET)
                client.create_bucket(Bucket=PUBLIC_BUCKET)
                client.put_object(
                    Bucket=BUCKET, Key="probe", Body=b"x"
                )  # fails until there is a volume
                client.delete_object(Bucket=BUCKET, Key="probe")
                return
            time.sleep(0.2)
    finally:
        client.close()
    raise TimeoutError(f"no S3 server: {log.read_text(errors='replace')[-2000:]}")


def s3_settings(endpoint: str) -> dict[str, str]:
    """Return the environment variables that put the product's object store there."""
    access, secret = CREDENTIALS
    return {
        "ORCHESTRATOR_STORAGE__KIND": "s3",
        "ORCHESTRATOR_STORAGE__ENDPOINT": endpoint,
        "ORCHESTRATOR_STORAGE__BUCKET": BUCKET,
        "ORCHESTRATOR_STORAGE__ACCESS_KEY": access,
        "ORCHESTRATOR_STORAGE__SECRET_KEY": secret,
    }


def s3_objects(endpoint: str, bucket: str) -> list[str]:
    """Return every key of a bucket."""
    client = s3_client(endpoint)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    finally:
        client.close()
