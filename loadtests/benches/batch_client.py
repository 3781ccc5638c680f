"""A client of the management API that ingests files as a batch of the queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.wrk import LoadError
from tests.support.serve_process import ServeProcess

_LONGEST_S = 600


class BatchClient:
    """Has a key of customer 1. The server must be allowed to read the files
    (`ingest.file_roots`).
    """

    def __init__(self, server: ServeProcess, env: Mapping[str, str] | None = None) -> None:
        """`env` are the settings with which the server was started."""
        command = Path(sys.executable).with_name("orchestrator")
        words = [command, "keys", "create", "1", "--data", server.data, "--json"]
        made = subprocess.run(
            words, env=os.environ | dict(env or {}), capture_output=True, text=True, check=True
        )
        self._key = json.loads(made.stdout)["token"]
        self._address = server.private

    def run_batch(self, files: Sequence[Path], name: str, **fields: str) -> float:
        """Ingest the files as `1/1/{name}-{number}`, with these fields of each asset; returns the
        seconds from the post to the end of the batch. Raises LoadError if a file fails.
        """
        began = time.perf_counter()
        path = self.post_batch(files, name, **fields)
        while (shown := self.read_batch(path))["finished"] is None:
            if time.perf_counter() - began > _LONGEST_S:
                raise LoadError(f"the batch is not finished: {shown}")
            time.sleep(0.1)
        if shown["completed"] != len(files):
            raise LoadError(f"the batch has errors: {shown}")
        return time.perf_counter() - began

    def post_batch(self, files: Sequence[Path], name: str, **fields: str) -> str:
        """Post the batch; returns its path."""
        members = [
            {"id": f"{name}-{number}", "space": 1, "origin": str(path), **fields}
            for number, path in enumerate(files)
        ]
        batch = self._ask("POST", "/customers/1/queue", {"member": members})
        return f"/customers/1/queue/batches/{batch['id']}"

    def read_batch(self, path: str) -> Any:
        """Return what the server says of the batch at a path."""
        return self._ask("GET", path)

    def cancel_batch(self, path: str) -> None:
        """Cancel the files of the batch that are not ingested yet."""
        self._ask("POST", f"{path}/cancel")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
