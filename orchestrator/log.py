"""The application log: standard logging, as one JSON object for each line on standard error.

An event is a fixed lower-case phrase; values that vary are in `extra`. Fields with the name of a
secret are masked, and settings hold secrets as SecretStr, which prints as asterisks. Exceptions are
written as `exception_text` describes them. Of a message of a library only its fixed part is
written, because its values can hold requests and their credentials.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from types import TracebackType
from typing import TextIO

from orchestrator.exception_text import describe_error, format_traceback
from orchestrator.work_context import work_context

MAX_FIELD_CHARS = 2_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(
    r"secret|password|passwd|token|authorization|cookie|api_?key|access_key|signature|dsn",
    re.IGNORECASE,
)
_OWN = "orchestrator"
_ADDRESS = re.compile(
    r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/@]*@)?([^\s/?#'\"]*)[^\s'\"]*", re.IGNORECASE
)

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, event, the request and job for
    which the code runs, the extra fields, and the traceback if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{second}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
            "pid": record.process,
            **work_context().fields(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = "***" if _SECRET.search(name) else _to_json(value)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = format_traceback(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _event(record: logging.LogRecord) -> str:
    if _is_own(record):
        return record.getMessage()
    # The rest of a message of asyncio is the `repr` of a task and of the exception that ended it.
    first_line = str(record.msg).partition("\n")[0]
    return _ADDRESS.sub(r"\1\2", first_line)[:MAX_FIELD_CHARS]


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == _OWN


def _to_json(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return describe_error(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {
            str(name): "***" if _SECRET.search(str(name)) else _to_json(item)
            for name, item in value.items()
        }
    return str(value)[:MAX_FIELD_CHARS]


def set_up_logging(level: str, stream: TextIO | None = None) -> logging.Handler:
    """Write records of `level` (debug, info, warning, error) and above to `stream` (default:
    standard error); of libraries only warnings and above. An exception that ends the process is
    written like any other.

    Replaces the handler of an earlier call. Returns the new handler.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, JsonFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(logging.WARNING, number))
    logging.getLogger(_OWN).setLevel(number)
    sys.excepthook = _on_uncaught
    return handler


def _on_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    log.critical("process failed", exc_info=(kind, error, trace))
