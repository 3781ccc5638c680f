"""The request and the job for which code runs are in its log lines, tasks and threads."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from orchestrator.log import JsonFormatter
from orchestrator.work_context import WorkContext, valid_trace_parent, work_context, working_for

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def logged(**fields: object) -> dict[str, object]:
    """A log line with these fields, as it is written now."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    record = logging.makeLogRecord({"name": "orchestrator.x", "msg": "source copied", **fields})
    handler.handle(record)
    line: dict[str, object] = json.loads(out.getvalue())
    return line


def test_a_log_line_names_the_request_and_the_job() -> None:
    with working_for(WorkContext("abc-1", TRACE, job=7)):
        line = logged(asset="1/1/a")
    assert (line["request_id"], line["job"], line["asset"]) == ("abc-1", 7, "1/1/a")
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert not {"request_id", "job", "trace_id"} & logged().keys()


def test_a_line_that_names_a_request_itself_keeps_it() -> None:
    with working_for(WorkContext("abc-1")):
        assert logged(request_id="other-2")["request_id"] == "other-2"


async def test_tasks_and_threads_have_the_context_of_the_code_that_starts_them() -> None:
    with working_for(WorkContext("abc-1")):
        task = asyncio.create_task(asyncio.to_thread(work_context))
    assert (await task).request_id == "abc-1"
    assert work_context() == WorkContext()


async def test_requests_at_the_same_time_keep_their_contexts() -> None:
    async def answer(name: str) -> str:
        with working_for(WorkContext(name)):
            await asyncio.sleep(0)
            return work_context().request_id

    names = [f"request-{number}" for number in range(20)]
    assert await asyncio.gather(*map(answer, names)) == names


def test_requests_to_other_servers_name_the_request_and_the_trace() -> None:
    headers = WorkContext("abc-1", TRACE, job=7).headers()
    assert headers == {"X-Request-Id": "abc-1", "traceparent": TRACE}
    assert WorkContext().headers() == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        TRACE.upper(),
        TRACE + "\r\nX-Evil: 1",
        TRACE + "-extra",
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ],
)
def test_a_trace_parent_that_is_not_valid_is_ignored(text: str) -> None:
    assert valid_trace_parent(text) == ""
    assert valid_trace_parent(TRACE) == TRACE
