"""Sample pictures and damaged forms of them, rendered by one interpreter under valgrind: no invalid
access and no decision on memory that was never written, in our code or in the decoders.

Python allocates with malloc, so that valgrind sees each object. The code that ORC compiles at run
time is switched off: it reads whole vectors past the end of a row, by design.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mutations import damaged_samples
from tests.support.samples import FOLDER

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
BATCHES = {
    "JPEG2000": "k_*",
    "TIFF": "[ty]_*",
    "HEIF and AVIF": "h_*",
    "several formats": "m_*",
    "others": "[jpws]_*",
}
MUTATIONS = 50
_SUPPRESSIONS = FOLDER.parent / "support" / "valgrind.supp"
_ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "G_SLICE": "always-malloc",
    "VIPS_NOVECTOR": "1",
    # Its vector code reads whole registers at the ends of rows. valgrind takes the pixels that it
    # makes of them, which are not used, for uninitialised values of the picture.
    "JSIMD_FORCENONE": "1",
}


def run_valgrind(files: list[Path], log: Path) -> tuple[str, str]:
    """(printed lines, report of valgrind) of a process that renders `files`."""
    program = shutil.which("valgrind")
    assert program, "valgrind is not installed: apt-get install valgrind"
    words = [program, "--error-limit=no", "--num-callers=30", f"--suppressions={_SUPPRESSIONS}"]
    words += [f"--log-file={log}", sys.executable, "-m", "tests.support.render_files"]
    result = subprocess.run(
        [*words, *map(str, files)],
        cwd=FOLDER.parents[1],
        env={**os.environ, **_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-500:] + result.stderr[-3000:]
    return result.stdout, log.read_text(errors="replace")


def errors_of(report: str) -> str:
    """The errors in a report; empty if there is none."""
    if re.search(r"ERROR SUMMARY: 0 errors", report):
        return ""
    return "\n".join(line for line in report.splitlines() if "HEAP" not in line)[:6000]


@pytest.mark.parametrize("pattern", BATCHES.values(), ids=BATCHES)
def test_no_sample_causes_an_invalid_access(tmp_path: Path, pattern: str) -> None:
    files = [path for path in sorted(FOLDER.glob(pattern)) if "expected" not in path.name]
    printed, report = run_valgrind(files, tmp_path / "valgrind.log")
    assert len(printed.splitlines()) == len(files)
    assert errors_of(report) == ""


@pytest.mark.parametrize("first", range(0, 2 * MUTATIONS, MUTATIONS))
def test_no_damaged_sample_causes_an_invalid_access(tmp_path: Path, first: int) -> None:
    files = damaged_samples(tmp_path, range(first, first + MUTATIONS))
    printed, report = run_valgrind(files, tmp_path / "valgrind.log")
    assert len(printed.splitlines()) == MUTATIONS
    assert errors_of(report) == ""
