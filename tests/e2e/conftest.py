"""Fixtures that run the installed command `orchestrator` and wait for its end."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENT_DATABASE
from tests.support.serve_process import COMMAND


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


def run_command(*words: object, env: dict[str, str] | None = None, timeout_s: float = 120) -> Done:
    """Run `orchestrator WORDS` and wait for its end; any exit status is a result."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")
    } | PATIENT_DATABASE
    done = subprocess.run(
        [str(COMMAND), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**environment, **(env or {})},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def command() -> Command:
    """`command("images", "list", "--data", folder)` gives exit status, output and errors."""
    return run_command


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for the images of one test module."""
    return tmp_path_factory.mktemp("pictures")
