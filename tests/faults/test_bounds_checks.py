"""Every sample picture and 2,000 damaged forms, decoded with a build of OpenJPEG that checks the
bounds of each access (AddressSanitizer): no invalid access in it, or to its buffers.

The build is that of the installed version, from Debian's source package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mutations import damaged_samples
from tests.support.samples import list_samples

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = 2000
OUTSIDE = """
import cffi
from orchestrator.imaging.jpeg2000 import binding
assert binding.load() is not None
print(open("/proc/self/maps").read(), flush=True)
ffi = cffi.FFI()
ffi.cdef("void *opj_image_data_alloc(size_t size);")
pixels = ffi.dlopen(binding.SONAME).opj_image_data_alloc(64)
ffi.memmove(bytearray(65), pixels, 65)
"""
"""Reads a byte behind a buffer of OpenJPEG."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that loads the build."""
    folder = tmp_path_factory.mktemp("openjpeg")
    build = subprocess.run(
        [str(ROOT / "scripts" / "build-checked-openjpeg.sh"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr[-3000:]
    named = dict(pair.split("=", 1) for pair in build.stdout.split())
    # Python's own allocator would hide its objects; leaks at exit are those of the interpreter.
    options = "detect_leaks=0:allocator_may_return_null=1"
    return {**os.environ, **named, "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": options}


def run_python(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_build_is_used_and_reports_an_access_outside_of_a_buffer(
    environment: dict[str, str],
) -> None:
    result = run_python(environment, "-c", OUTSIDE)
    loaded = {line.split()[-1] for line in result.stdout.splitlines() if "libopenjp2" in line}
    assert {str(Path(name).parent) for name in loaded} == {environment["LD_LIBRARY_PATH"]}
    assert "heap-buffer-overflow" in result.stderr


def test_no_sample_and_no_damaged_sample_causes_an_invalid_access(
    environment: dict[str, str], tmp_path: Path
) -> None:
    files = [sample.path for sample in list_samples()]
    files += damaged_samples(tmp_path, range(MUTATIONS))
    result = run_python(environment, "-m", "tests.support.render_files", *map(str, files))
    assert result.returncode == 0, result.stderr[-6000:]
    verdicts = [line.split()[-1] for line in result.stdout.splitlines()]
    assert len(verdicts) == len(files)
    assert verdicts[: len(list_samples())].count("pixels") == len(list_samples())
    print({verdict: verdicts.count(verdict) for verdict in sorted({*verdicts})})
