"""An OpenID Connect provider of the package oidc-provider-mock, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.patience import patience
from tests.support.serve_process import fetch, free_port


@contextmanager
def run_provider(*users: Mapping[str, Any]) -> Iterator[str]:
    """The address of a provider that knows these users, by their claims; it demands a nonce."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    words += ["--require-nonce", "true"]
    for claims in users:
        words += ["--user-claims", json.dumps(claims)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(10 * patience())


def _wait_until_ready(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30 * patience()
    while time.monotonic() < deadline and process.poll() is None:
        try:
            fetch(f"{address}/.well-known/openid-configuration", timeout_s=5)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"the provider is not ready, status {process.poll()}")
