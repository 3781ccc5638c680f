"""For which request and job the running code works. Log lines, calls to other servers and jobs
carry it, so that one search finds all of them.

The context follows tasks and threads that asyncio starts. Work that several requests share
(single-flight) has the context of the request that began it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from orchestrator.tracing import NO_TRACING, Tracing

_TRACE_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


@dataclass(frozen=True, slots=True)
class WorkContext:
    """`request_id` is that of the request that caused the work, "" for none; `trace_parent` the
    header `traceparent` of its span, without traces that of its client, "" for none (W3C Trace
    Context, level 1); `job` the id of the job that runs, 0 for none; `tracing` opens the spans of
    the steps of the work.
    """

    request_id: str = ""
    trace_parent: str = ""
    job: int = 0
    tracing: Tracing = NO_TRACING

    def fields(self) -> dict[str, str | int]:
        """The fields of a log line."""
        found: dict[str, str | int] = {}
        if self.request_id:
            found["request_id"] = self.request_id
        if self.trace_parent:
            found["trace_id"] = self.trace_parent[3:35]
        if self.job:
            found["job"] = self.job
        return found

    def headers(self) -> dict[str, str]:
        """The headers of a request to another server of the installation."""
        found = {"X-Request-Id": self.request_id, "traceparent": self.trace_parent}
        return {name: value for name, value in found.items() if value}


_NONE = WorkContext()
_current: ContextVar[WorkContext] = ContextVar("work_context", default=_NONE)


def work_context() -> WorkContext:
    """The context of the running code; an empty one outside of requests and jobs."""
    return _current.get()


@contextmanager
def working_for(context: WorkContext) -> Iterator[None]:
    """Run the block, and the tasks that it starts, in this context."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def valid_trace_parent(text: str) -> str:
    """The value of a header `traceparent`, or "" if it is not valid."""
    return text if _TRACE_PARENT.fullmatch(text) else ""
