"""Finds and runs the black-box test scripts, which are not in the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def acceptance_folder() -> Path | None:
    """`ACCEPTANCE_DIR`, else `../shared/acceptance` beside the checkout; None if it is absent."""
    folder = Path(os.environ.get("ACCEPTANCE_DIR") or _ROOT.parent / "shared" / "acceptance")
    return folder if (folder / "iiif_http.py").exists() else None


def run_script(
    name: str, *arguments: str, timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts with this interpreter; its output is in `stdout`."""
    folder = acceptance_folder()
    if folder is None:
        pytest.skip("the acceptance scripts are not on this machine (set ACCEPTANCE_DIR)")
    return subprocess.run(
        [sys.executable, "-B", str(folder / name), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
