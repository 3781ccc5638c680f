"""Style sheets and styles of drawings, without whatever loads something: imports, fonts, and
addresses that are not a part of the drawing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tinycss2

from orchestrator.errors import Damaged, TooLarge
from orchestrator.imaging.formats.svg_vocabulary import (
    CSS_FUNCTIONS,
    NESTED_RULES,
    REFUSED_PROPERTIES,
)

MAX_CHARACTERS = 1024**2
"""The longest style sheet or style. The parser reads about a million characters a second."""
_MAX_NESTING = 16


def safe_style_sheet(text: str) -> str:
    """The style sheet without what is not allowed. Raises TooLarge, Damaged."""
    _check_length(text)
    try:
        rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        return "\n".join(_safe_rules(rules, 0))
    except RecursionError as error:
        raise _too_deep() from error


def safe_style(text: str) -> str:
    """The declarations of a `style` attribute without those that are not allowed. Raises TooLarge,
    Damaged.
    """
    _check_length(text)
    try:
        return _safe_declarations(_declarations(text))
    except RecursionError as error:
        raise _too_deep() from error


def is_safe_value(text: str) -> bool:
    """True if the value of a presentation attribute loads nothing. Raises TooLarge, Damaged."""
    if "(" not in text and "\\" not in text:
        return True
    _check_length(text)
    try:
        return _is_safe(tinycss2.parse_component_value_list(text), 0)
    except RecursionError as error:
        raise _too_deep() from error


def _check_length(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"A style of the SVG file has more than {MAX_CHARACTERS} characters.")


def _too_deep() -> Damaged:
    return Damaged("The styles of the SVG file are nested too deeply.")


def _declarations(content: str | Sequence[Any]) -> list[Any]:
    parsed = tinycss2.parse_declaration_list(content, skip_comments=True, skip_whitespace=True)
    return [each for each in parsed if each.type == "declaration"]


def _safe_declarations(declarations: Iterable[Any]) -> str:
    kept = [
        each.serialize().strip()
        for each in declarations
        if each.lower_name not in REFUSED_PROPERTIES and _is_safe(each.value, 0)
    ]
    return "; ".join(kept)


def _safe_rules(rules: Iterable[Any], depth: int) -> Iterable[str]:
    if depth > _MAX_NESTING:
        raise _too_deep()
    for rule in rules:
        if rule.type == "qualified-rule" and _is_safe(rule.prelude, 0):
            body = _safe_declarations(_declarations(rule.content))
        elif _is_group(rule) and _is_safe(rule.prelude, 0):
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            body = "\n".join(_safe_rules(inner, depth + 1))
        else:
            continue
        name = f"@{rule.lower_at_keyword} " if rule.type == "at-rule" else ""
        yield f"{name}{tinycss2.serialize(rule.prelude).strip()} {{{body}}}"


def _is_group(rule: Any) -> bool:
    return (
        rule.type == "at-rule"
        and rule.lower_at_keyword in NESTED_RULES
        and rule.content is not None
    )


def _is_safe(tokens: Iterable[Any], depth: int) -> bool:
    """True if the tokens use allowed functions only, and addresses only within the drawing."""
    if depth > _MAX_NESTING:
        return False
    for token in tokens:
        if token.type == "error":
            return False
        if token.type == "url" and not token.value.strip().startswith("#"):
            return False
        if token.type == "function" and not _is_safe_function(token, depth):
            return False
        if token.type.endswith(" block") and not _is_safe(token.content, depth + 1):
            return False
    return True


def _is_safe_function(token: Any, depth: int) -> bool:
    if token.lower_name not in CSS_FUNCTIONS:
        return False
    if token.lower_name == "url":
        return [each.value.strip()[:1] for each in token.arguments if each.type == "string"] == [
            "#"
        ]
    return _is_safe(token.arguments, depth + 1)
