"""The regular expressions of origin strategies: compiling, checking and searching them.

Customers write them, so each search has a time limit: a slow regex must not hold up other work.
"""

from __future__ import annotations

import time

import regex

from orchestrator.errors import InvalidInput

MAX_REGEX_CHARS = 1000
_PROBES = ("https://example.org/" + "a" * 300 + "!", "s3://" + "a/" * 100 + "0" * 100 + "\n")
_PROBE_TIMEOUT_S = 0.1
_COMPILE_ERRORS = (regex.error, RecursionError, MemoryError, OverflowError, ValueError)

Pattern = regex.Pattern[str]


def compile_regex(text: str) -> Pattern:
    """Compile the regex; it ignores case. Raises InvalidInput."""
    try:
        return regex.compile(text, regex.IGNORECASE | regex.VERSION0)
    except _COMPILE_ERRORS as error:
        raise InvalidInput(f"The regex is not valid: {error}.") from error


def check_regex(text: str, *, probe: bool = True) -> None:
    """Raise InvalidInput if the regex is too long, does not compile, or (with `probe`) is slow on
    ordinary addresses. Blocks for at most 0.2 s.
    """
    if not text or len(text) > MAX_REGEX_CHARS or "\0" in text:
        raise InvalidInput(f"A regex must have 1 to {MAX_REGEX_CHARS} characters.")
    pattern = compile_regex(text)
    if not probe:
        return
    for address in _PROBES:
        try:
            pattern.search(address, timeout=_PROBE_TIMEOUT_S, concurrent=True)
        except (TimeoutError, MemoryError) as error:
            raise InvalidInput(
                "The regex takes too long. Avoid a repetition inside a repetition."
            ) from error


def is_found(pattern: Pattern, origin: str, *, timeout_s: float, deadline: float) -> bool:
    """Return whether the regex matches anywhere in the origin. Raises TimeoutError, MemoryError.

    Blocks; run it in a thread (`concurrent` releases the interpreter lock). `regex` counts the
    processor time of all threads, so on a busy machine a fast search can time out. A search that
    times out therefore runs once more with four times the limit, unless `deadline`, a time of
    `time.monotonic`, has passed.
    """
    try:
        return bool(pattern.search(origin, timeout=timeout_s, concurrent=True))
    except (TimeoutError, MemoryError):
        if time.monotonic() > deadline:
            raise
    return bool(pattern.search(origin, timeout=4 * timeout_s, concurrent=True))
