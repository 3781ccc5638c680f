"""The log: one line of JSON for each event, without secrets."""

import ast
import errno
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import OriginUnavailable
from orchestrator.log import set_up_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    own = logging.getLogger("orchestrator")
    levels, hook = (root.level, own.level), sys.excepthook
    out = io.StringIO()
    handler = set_up_logging("info", out)
    yield out
    root.removeHandler(handler)
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    sys.excepthook = hook


def test_an_event_is_one_line_with_its_fields(stream: io.StringIO) -> None:
    logging.getLogger("orchestrator.x").info(
        "source orchestrated", extra={"asset": "1/1/a", "bytes": 5}
    )
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "source orchestrated"
    assert (event["level"], event["logger"]) == ("info", "orchestrator.x")
    assert (event["asset"], event["bytes"]) == ("1/1/a", 5)
    assert event["time"].endswith("Z")


def test_secrets_are_masked_in_fields_and_nested_fields(stream: io.StringIO) -> None:
    fields = {"secret_key": "s3cret", "headers": {"Authorization": "s3cret"}, "dsn": "s3cret"}
    logging.getLogger("orchestrator.x").info("opened", extra=fields)
    assert "s3cret" not in stream.getvalue()


def test_an_exception_is_part_of_the_line_of_its_event(stream: io.StringIO) -> None:
    logging.getLogger("orchestrator.x").error(
        "unexpected error", exc_info=ValueError("line\nbreak")
    )
    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in json.loads(line)["error"]


def test_only_warnings_and_errors_of_libraries_are_written(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("trouble")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["trouble"]


def test_a_second_set_up_does_not_write_lines_twice(stream: io.StringIO) -> None:
    handler = set_up_logging("info", stream)
    logging.getLogger("orchestrator.x").info("once")
    logging.getLogger().removeHandler(handler)
    assert len(stream.getvalue().splitlines()) == 1


SECRET = "correct-horse-battery"


def test_the_text_of_a_foreign_exception_is_not_written_whatever_wraps_it(
    stream: io.StringIO,
) -> None:
    def fail() -> None:
        try:
            try:
                int(SECRET)
            except ValueError as error:
                raise ExceptionGroup(SECRET, [KeyError(SECRET), error]) from error
        except ExceptionGroup:
            raise OriginUnavailable("The origin answered 500.")  # noqa: B904  an implicit cause

    log = logging.getLogger("orchestrator.x")
    try:
        fail()
    except OriginUnavailable as error:
        log.exception("ingest failed unexpectedly")
        log.warning("request failed", extra={"cause": error, "all": [error, ValueError(SECRET)]})
    text = stream.getvalue()
    assert SECRET not in text
    for part in ("The origin answered 500.", "ValueError", "KeyError", "ExceptionGroup", "in fail"):
        assert part in text


def test_an_error_of_the_disk_names_the_file(stream: io.StringIO) -> None:
    error = OSError(errno.ENOSPC, SECRET, "/data/scratch/original")
    logging.getLogger("orchestrator.x").error("disk full", exc_info=error)
    line = json.loads(stream.getvalue())
    assert line["error"] == "OSError (errno=ENOSPC, file='/data/scratch/original')"


def test_a_library_writes_no_values(stream: io.StringIO) -> None:
    library = logging.getLogger("aiohttp.client")
    library.warning("Unclosed connection: %r", ValueError(SECRET))
    library.warning(f"Retrying https://user:{SECRET}@example.org/path?signature={SECRET}")
    logging.getLogger("asyncio").error(
        f"Task exception was never retrieved\nfuture: <Task exception=ValueError({SECRET!r})>",
        exc_info=ValueError(SECRET),
    )
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert SECRET not in stream.getvalue()
    assert events == [
        "Unclosed connection: %r",
        "Retrying https://example.org",
        "Task exception was never retrieved",
    ]


def test_an_exception_that_ends_the_process_is_written_without_its_text(
    stream: io.StringIO,
) -> None:
    sys.excepthook(ValueError, ValueError(SECRET), None)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["error"]) == ("process failed", "ValueError")


def test_no_log_call_formats_an_exception_itself() -> None:
    """`exception_text` is the one place: a call of `str` or `repr` would quote the library."""
    found = []
    for path in sorted((Path(__file__).parents[2] / "orchestrator").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for call in [node for node in ast.walk(tree) if is_log_call(node)]:
            for node in ast.walk(call):
                if isinstance(node, ast.JoinedStr) or (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) in ("str", "repr")
                    and re.search(r"error|exc|cause|failure", ast.unparse(node.args[0]))
                ):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []


def is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "log"
    )
