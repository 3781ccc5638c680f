"""The supervisor of background loops, and the list of all loops."""

from __future__ import annotations

import ast
import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import metrics
from orchestrator.errors import CatalogUnavailable
from orchestrator.processes.background import LOOPS, Loop, keep_running
from tests.support.patience import patience

PACKAGE = Path(__file__).parents[3] / "orchestrator"
THREADS = {
    "catalog/embedded/database.py _watch",
    "cache/disk/index_thread.py IndexThread._run",
    "web/access_log.py AccessLog._run",
}
"""Threads that run as long as their process; each catches every failure of a round."""
OTHER_THREADS = {
    "cli/serve_command.py _announce_ready",
    "cli/serve_command.py _show_progress",
    "imaging/workers/decode_worker.py _end_with_parent",
}
"""Threads that end by themselves."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function of a module with its qualified name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        else:
            yield from functions(child, prefix)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `node`, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda):
            yield child
            yield from own_nodes(child)


def is_endless(function: Function) -> bool:
    """True if the function is a coroutine with a loop that only an exception ends."""
    return isinstance(function, ast.AsyncFunctionDef) and any(
        isinstance(node, ast.While)
        and isinstance(node.test, ast.Constant)
        and node.test.value is True
        and not any(isinstance(each, ast.Break | ast.Return) for each in own_nodes(node))
        for node in own_nodes(function)
    )


def all_functions() -> Iterator[tuple[str, Function]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, function in functions(ast.parse(path.read_text())):
            yield f"{path.relative_to(PACKAGE)} {name}", function


def test_the_list_names_every_endless_loop_of_the_program() -> None:
    endless = {name for name, function in all_functions() if is_endless(function)}
    supervisor = {"processes/background.py keep_running"}
    assert endless - supervisor == {code for kind in LOOPS for code in kind.code}


def test_the_names_of_loops_are_unique() -> None:
    assert len({kind.name for kind in LOOPS}) == len(LOOPS)


def test_every_thread_is_known() -> None:
    targets = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread":
                target = next(each.value for each in node.keywords if each.arg == "target")
                name = ast.unparse(target).replace("self.", "")
                targets.add(f"{path.relative_to(PACKAGE)} {name}")
    known = {each.replace("IndexThread.", "").replace("AccessLog.", "") for each in THREADS}
    assert targets == known | OTHER_THREADS


def test_every_lasting_thread_survives_any_failure() -> None:
    code = dict(all_functions())
    for name in THREADS:
        handlers = [n for n in ast.walk(code[name]) if isinstance(n, ast.ExceptHandler)]
        assert any(ast.unparse(each.type or ast.Name("")) == "Exception" for each in handlers), name


async def run_until(loop: Loop, done: asyncio.Event) -> None:
    """Keep the loop running until `done` is set."""
    task = asyncio.create_task(keep_running(loop))
    async with asyncio.timeout(20 * patience()):
        await done.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (CatalogUnavailable("The catalogue does not answer."), "WARNING"),
        (ExceptionGroup("several", [CatalogUnavailable("The catalogue is away.")]), "WARNING"),
        (ValueError("a bug"), "ERROR"),
        (ExceptionGroup("several", [CatalogUnavailable("Away."), OSError("x")]), "ERROR"),
    ],
    ids=["outage", "outage in a task", "bug", "outage and bug"],
)
async def test_a_loop_that_fails_is_started_again_and_the_failure_is_logged_once(
    error: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs, done = 0, asyncio.Event()

    async def fail_twice() -> None:
        nonlocal runs
        runs += 1
        if runs <= 2:
            raise error
        done.set()
        await asyncio.Event().wait()

    counter = metrics.LOOP_FAILURES.labels("example")
    before = counter._value.get()
    caplog.set_level(logging.INFO)
    await run_until(Loop("example", fail_twice), done)
    assert counter._value.get() == before + 2
    assert [record.levelname for record in caplog.records] == [level]


async def test_a_loop_that_ends_is_started_again() -> None:
    runs, done = 0, asyncio.Event()

    async def end() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            done.set()

    await run_until(Loop("example", end), done)
