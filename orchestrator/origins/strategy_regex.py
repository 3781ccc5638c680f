"""The regular expressions of origin strategies: compiling, checking and searching them.

Customers write them, so they are searched by RE2, in a time that is linear in the length of the
origin. No regex can hold up other work.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import re2

from orchestrator.errors import InvalidInput

MAX_REGEX_CHARS = 1000
_MAX_BYTES = 512 * 1024
"""Memory of a compiled regex. The time of a search is proportional to it: 0.2 s for an origin of
4,000 characters in the worst case.
"""

Pattern: TypeAlias = Any
"""A compiled regex. The package has no types."""


def compile_regex(text: str) -> Pattern:
    """Compile the regex; it ignores case. Raises InvalidInput."""
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MAX_BYTES
    try:
        return re2.compile(text.replace(r"\Z", r"\z"), options)
    except re2.error as error:
        raise InvalidInput(
            f"The regex is not valid: {_reason(error)}. Its syntax is that of RE2, which has no "
            "look-around, back-references or possessive repetitions. See docs/origins.md."
        ) from error


def check_regex(text: str) -> None:
    """Raise InvalidInput if the regex is too long or does not compile."""
    if not text or len(text) > MAX_REGEX_CHARS or "\0" in text:
        raise InvalidInput(f"A regex must have 1 to {MAX_REGEX_CHARS} characters.")
    compile_regex(text)


def is_found(pattern: Pattern, origin: str) -> bool:
    """Return whether the regex matches anywhere in the origin. Blocks for up to 0.2 s."""
    return pattern.search(origin) is not None


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
