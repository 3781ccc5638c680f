"""The path of a newcomer: `docs/quick-start.md` alone, from nothing to own pictures in a viewer,
in less than five minutes. The commands are those of the page.

The short form of this is `test_how_tos.py`, which runs the page in the present environment.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support import pictures
from tests.support.browsing import Visit, assert_shows_a_picture, browser
from tests.support.patience import patience
from tests.support.serve_process import fetch, free_port, wait_until

__all__ = ["browser"]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quick-start.md").read_text()
LIMIT_S = 300


def block(kind: str) -> str:
    [text] = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)
    return str(text)


def is_ready(port: int) -> bool:
    with suppress(OSError):
        return fetch(f"http://127.0.0.1:{port}/health/ready", timeout_s=5).status == 200
    return False


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_newcomer_sees_own_pictures_in_a_viewer_within_five_minutes(
    tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "mine").mkdir()
    pictures.jpeg(tmp_path / "mine" / "page.jpg", 1600, 1200)
    ports = {"PORT": str(free_port()), "PRIVATE_PORT": str(free_port())}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")
    } | {
        "HOME": str(tmp_path),
        "ORCHESTRATOR_SERVER__PORT": ports["PORT"],
        "ORCHESTRATOR_SERVER__PRIVATE_PORT": ports["PRIVATE_PORT"],
        **ports,
    }
    if cache := os.environ.get("PIP_CACHE_DIR"):
        environment["PIP_CACHE_DIR"] = cache
    port, began = int(ports["PORT"]), time.monotonic()
    # Each step of the page as it stands; SIGINT is the Ctrl-C that the page speaks of.
    install = block("sh install").replace("REPOSITORY", str(ROOT))
    server = block("sh server").replace("pictures", str(tmp_path / "mine"))
    steps = [install, f"cd orchestrator\n{block('sh path')}\n{server}"]
    for step in steps:
        with subprocess.Popen(
            ["bash", "-c", f"set -e\n{step}"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                wait_until(lambda: is_ready(port) or process.poll() is not None, "ready", 900)
                assert process.poll() is None
                if step is steps[-1]:
                    visit = Visit(browser, f"http://127.0.0.1:{port}/view/1/1/page")
                    visit.settle()
                    assert_shows_a_picture(visit.shot("newcomer.png"))
                    assert visit.failures() == []
                    took_s = time.monotonic() - began
                    visit.close()
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(60 * patience())
    print(f"from nothing to own pictures in a viewer: {took_s:.0f} s")
    assert took_s < LIMIT_S * patience()
