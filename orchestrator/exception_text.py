"""The one place that turns exceptions into text for logs, so that no secret is in it.

The text of an exception of a library can hold request headers, signed addresses, passwords and
statements. So only exceptions of the product are quoted. Of any other one the text has its class,
and the fields that are known to be harmless: host, status, error number, file of an OSError.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator

from orchestrator.errors import OrchestratorError

MAX_CHARS = 2_000
_OWN = "orchestrator."
_MAX_CAUSES = 20
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_CODE = re.compile(r"[A-Za-z_]{1,60}|[0-9A-Z]{1,6}|-?\d{1,10}")
"""Names and numbers. A server could send a key with digits and letters as its error code."""


def describe_error(error: BaseException | None) -> str:
    """Return one line for the exception and its causes, outermost first; "" for None."""
    chain = [] if error is None else [describe_one(each) for each in _causes(error)]
    return "; caused by ".join(chain)[:MAX_CHARS]


def format_traceback(error: BaseException) -> str:
    """Return the traceback of the exception and its causes, innermost first as Python prints it,
    with each exception as `describe_one` returns it. Source lines are shown, values are not.
    """
    blocks = []
    for each in reversed(list(_causes(error))):
        frames = "".join(traceback.format_tb(each.__traceback__))
        heading = "Traceback (most recent call last):\n" if frames else ""
        blocks.append(f"{heading}{frames}{describe_one(each)}")
    return "\nThe exception above led to this one:\n".join(blocks)


def describe_one(error: BaseException) -> str:
    """Return the class of the exception and its harmless fields, without its causes."""
    name = _class_name(type(error))
    if isinstance(error, OrchestratorError):
        return f"{name}: {error.public}"
    if type(error).__module__.startswith(_OWN):
        return f"{name}: {error}"
    details = ", ".join(f"{field}={value}" for field, value in _harmless_fields(error))
    return f"{name} ({details})" if details else name


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, and every one that it was raised from, contains or wraps."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MAX_CAUSES:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting += [] if cause is None else [cause]


def _class_name(kind: type[BaseException]) -> str:
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"


def _harmless_fields(error: BaseException) -> Iterator[tuple[str, object]]:
    host = _host_of(error)
    if host and _HOST.fullmatch(host):
        yield "host", host
    for field, value in _codes_of(error):
        if value and _CODE.fullmatch(str(value)):
            yield field, value
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        for path in (error.filename, error.filename2):
            if isinstance(path, str | bytes):
                yield "file", repr(path)


def _host_of(error: BaseException) -> str:
    """Return the host that aiohttp names in its errors: of a connection or of a request."""
    host = getattr(error, "host", None)
    request = getattr(error, "request_info", None)
    if not isinstance(host, str) and request is not None:
        host = getattr(getattr(request, "url", None), "host", None)
    return host if isinstance(host, str) else ""


def _codes_of(error: BaseException) -> Iterator[tuple[str, object]]:
    """Yield the numbers and constants by which libraries tell apart their errors."""
    status = getattr(error, "status", None)  # aiohttp
    yield "status", status if isinstance(status, int) else None
    response = getattr(error, "response", None)  # botocore
    if isinstance(response, dict):
        yield "status", (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        yield "code", (response.get("Error") or {}).get("Code")
    replies = getattr(error, "received_codes", None)  # aioftp
    yield "status", replies[-1] if isinstance(replies, tuple) and replies else None
    yield "sqlstate", getattr(error, "sqlstate", None)  # asyncpg
    yield "sqlite", getattr(error, "sqlite_errorname", None)
    if type(error).__module__.startswith("asyncssh."):
        yield "code", getattr(error, "code", None)
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and isinstance(number, int):
        yield "errno", errno.errorcode.get(number, number)
        yield "reason", getattr(error, "reason", None)  # ssl
