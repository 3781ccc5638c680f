"""The log: one line of JSON for each event, without secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from orchestrator.log import set_up_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level = root.level
    out = io.StringIO()
    handler = set_up_logging("info", out)
    yield out
    root.removeHandler(handler)
    root.setLevel(level)


def test_an_event_is_one_line_with_its_fields(stream: io.StringIO) -> None:
    logging.getLogger("x.y").info("source orchestrated", extra={"asset": "1/1/a", "bytes": 5})
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "source orchestrated"
    assert (event["level"], event["logger"]) == ("info", "x.y")
    assert (event["asset"], event["bytes"]) == ("1/1/a", 5)
    assert event["time"].endswith("Z")


def test_secrets_are_masked_in_fields_and_nested_fields(stream: io.StringIO) -> None:
    fields = {"secret_key": "s3cret", "headers": {"Authorization": "s3cret"}, "dsn": "s3cret"}
    logging.getLogger("x").info("opened", extra=fields)
    assert "s3cret" not in stream.getvalue()


def test_an_exception_is_part_of_the_line_of_its_event(stream: io.StringIO) -> None:
    logging.getLogger("x").error("unexpected error", exc_info=ValueError("line\nbreak"))
    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in json.loads(line)["error"]


def test_only_warnings_and_errors_of_libraries_are_written(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("trouble")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["trouble"]


def test_a_second_set_up_does_not_write_lines_twice(stream: io.StringIO) -> None:
    handler = set_up_logging("info", stream)
    logging.getLogger("x").info("once")
    logging.getLogger().removeHandler(handler)
    assert len(stream.getvalue().splitlines()) == 1
