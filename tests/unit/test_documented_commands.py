"""What the documentation tells readers to run or to write exists and has valid syntax, on every
page. `tests/e2e/test_how_tos.py` runs the pages that can be run on one machine.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_docs import WRITER

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ("cli.md", "settings.md", "metrics.md", "openapi.md")
COMMANDS: dict[tuple[str, ...], Any] = {
    tuple(words.split()[1:]): command for words, command in WRITER.commands()
}
FENCE = re.compile(r"^```([\w ]*)\n(.*?)^```$", re.M | re.S)


def fences(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    for language, block in FENCE.findall(text):
        yield (language.split() or [""])[0], block


def code_of(text: str) -> Iterator[str]:
    """Every line of code: of shell blocks, indented blocks, and texts in backticks."""
    for language, block in fences(text):
        if language == "sh":
            yield from block.replace("\\\n", " ").splitlines()
    prose = FENCE.sub("", text)
    yield from (line.strip() for line in prose.splitlines() if line.startswith("    "))
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


def calls(line: str, program: str) -> Iterator[list[str]]:
    """The arguments of each call of a program in a line of shell."""
    for match in re.finditer(rf"(?:^|[\s(|;&])(?:\.venv/bin/)?{program} ([^|;&()]*)", line):
        try:
            yield shlex.split(match[1].split(" > ")[0].split(" < ")[0], comments=True)
        except ValueError:  # a quote that ends in another line
            yield match[1].split("'")[0].split('"')[0].split()


def faults_of(words: list[str]) -> list[str]:
    """What is wrong with the arguments of `orchestrator`."""
    length = max((n for n in (1, 2) if tuple(words[:n]) in COMMANDS), default=0)
    if not length:
        is_group = any(path[:1] == tuple(words[:1]) for path in COMMANDS)
        return [] if is_group and len(words) == 1 else [f"no command {' '.join(words[:2])}"]
    command = COMMANDS[tuple(words[:length])]
    known = {"--help"} | {
        option for each in command.params for option in (*each.opts, *each.secondary_opts)
    }
    options = [word.partition("=")[0] for word in words[length:] if re.match(r"--\w", word)]
    return [f"{' '.join(words[:length])} has no {each}" for each in options if each not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page: Path) -> None:
    lines = list(code_of(page.read_text()))
    found = [words for line in lines for words in calls(line, "orchestrator") if words]
    assert [fault for words in found for fault in faults_of(words)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        words[0]
        for line in code_of(page.read_text())
        for words in calls(line, "make")
        if line.startswith("make ") and words
    }
    assert sorted(named - targets) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_have_valid_syntax(page: Path) -> None:
    for language, block in fences(page.read_text()):
        match language:
            case "sh":
                checked = subprocess.run(
                    ["bash", "-n"], input=block, text=True, capture_output=True, check=False
                )
                assert checked.returncode == 0, f"{block}\n{checked.stderr}"
            case "toml":
                tomllib.loads(block)
            case "json":
                json.loads(block)
            case "yaml":
                yaml.safe_load(block)
            case "python":
                compile(block, page.name, "exec")
            case language:
                assert language in ("text", "mermaid", "nginx"), f"no check for {language}"


def test_a_command_that_does_not_exist_is_found() -> None:
    assert faults_of(["images", "paint"]) == ["no command images paint"]
    assert faults_of(["images", "set", "1/1/page", "--colour"]) == ["images set has no --colour"]
    assert faults_of(["images", "set", "1/1/page", "--roles", "staff"]) == []
