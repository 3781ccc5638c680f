"""A command imports no more than it needs: what it imports is most of its processor time."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVICES = ("orchestrator.app", "pyvips", "aiohttp", "botocore", "asyncssh")
WEB = ("aiohttp.web", "jinja2")


@pytest.mark.parametrize(
    ("modules", "unused"),
    [
        (("catalog.migrated_catalog", "catalog.embedded.database"), (*SERVICES, *WEB)),
        (("app",), WEB),
    ],
    ids=["catalogue", "services"],
)
def test_a_command_does_not_import_what_it_does_not_use(
    modules: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    names = ", ".join(f"orchestrator.{each}" for each in ("cli.command_tree", *modules))
    code = f"import sys, {names}; print([m for m in {unused!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
