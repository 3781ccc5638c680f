"""Patterns in settings that say which names a customer may use. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

PLACEHOLDER = "{customer}"
"""Stands for the number of the customer."""


def is_permitted(name: str, patterns: Iterable[str], customer: int) -> bool:
    """Return whether one of the patterns (`*`, `?`, `[...]`) matches the whole name."""
    return any(
        fnmatchcase(name, pattern.replace(PLACEHOLDER, str(customer))) for pattern in patterns
    )
