"""The language of the house: plain words, and references that lead somewhere (CONTRIBUTING.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = (".py", ".md", ".toml", ".sql", ".html", ".js", ".css", ".sh", ".yaml", ".conf")
PLACES = (
    "orchestrator",
    "docs",
    "config",
    "scripts",
    "loadtests",
    "tests",
    "Makefile",
    "Dockerfile",
)

EXEMPT = {
    "vendor",
    "node_modules",
    "results",
    "migrations",
    "installation_0_1",
    Path(__file__).name,
}
"""Migrations that were applied somewhere never change: their digests are compared."""

REJECTED = re.compile(
    r"\b(?:whoever|whomever|nobody|somebody|anybody|anew|hence|thereof|henceforth)\b"
    r"|\bin vain\b|\bthe dead\b(?![ -]letter)|\bof theirs\b|\bof its own accord\b"
    r"|\btold of\b|\bheard of\b",
    re.IGNORECASE,
)
REFERENCE = re.compile(r"(?<![\w/.{}*-])((?:[\w-]+/)*[\w-]+\.(?:md|py))\b")


def texts() -> Iterator[tuple[str, str]]:
    """Every file that a reader of the project meets: its name and its text."""
    found = [*ROOT.glob("*.md")]
    for place in PLACES:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*"))
    for path in found:
        is_text = path.suffix in SUFFIXES or path.name in PLACES
        if path.is_file() and is_text and not EXEMPT & {*path.parts}:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


TEXTS = dict(texts())
FILE_NAMES = {
    path.name
    for place in ("orchestrator", "tests", "loadtests", "scripts")
    for path in (ROOT / place).rglob("*.py")
} | {"zoom_session.py"}  # an acceptance script, which ACCEPTANCE_DIR has


@pytest.mark.parametrize("name", TEXTS)
def test_no_word_needs_a_dictionary(name: str) -> None:
    found = [
        f"{name}:{number}: {match[0]}"
        for number, line in enumerate(TEXTS[name].split("\n"), 1)
        for match in REJECTED.finditer(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", [name for name in TEXTS if not name.startswith("tests/")])
def test_every_file_that_a_text_names_exists(name: str) -> None:
    """A path is given from the root, from `orchestrator/`, `docs/` or `tests/`, or from the folder
    of the file that names it; a bare name is that of any file of the project.
    """
    bases = (ROOT, ROOT / "orchestrator", ROOT / "docs", ROOT / "tests", (ROOT / name).parent)
    missing = [
        f"{name}: {reference}"
        for reference in sorted(set(REFERENCE.findall(TEXTS[name])))
        if reference not in FILE_NAMES and not any((base / reference).exists() for base in bases)
    ]
    assert missing == []


def test_the_rejected_words_are_found_where_they_stand() -> None:
    assert REJECTED.search("Whoever asks")
    assert REJECTED.search("swept after the dead.")
    assert not REJECTED.search("the dead letters of a queue, an enhanced hencefort")
