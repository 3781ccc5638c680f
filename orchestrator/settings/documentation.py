"""Writes `config/default.toml` and the tables of `docs/settings.md` from the declarations of the
settings.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from orchestrator.settings.field_types import Section
from orchestrator.settings.sections import Settings

_HEADER = """\
# All settings with their defaults. Copy the ones you change into a file of your own and name that
# file with --config. The environment (ORCHESTRATOR_<SECTION>__<KEY>) overrides the file, and the
# command line overrides both. Amounts of bytes may be text: "500MB", "2GiB". Times are in seconds.
# `orchestrator config check` reports all faults at once. `orchestrator config show` shows where
# each value comes from. `make docs` writes this file from orchestrator/settings/.
"""


def default_toml() -> str:
    """The text of `config/default.toml`: each setting below its meaning, with empty user paths."""
    blocks = [_HEADER]
    for name, section in _sections():
        lines = ["", *_comment(_section_text(section)), f"[{name}]"]
        for key, info in section.model_fields.items():
            lines += [*_comment(_setting_text(info)), f"{key} = {_default(info)}"]
        blocks.append("\n".join(lines) + "\n")
    return "".join(blocks)


def settings_table() -> str:
    """The body of `docs/settings.md`: for each section a table of names, defaults and meanings."""
    blocks = []
    for name, section in _sections():
        rows = [
            f"\n## {name}\n\n{_section_text(section)}\n",
            "| setting | default | meaning |",
            "|---|---|---|",
        ]
        for key, info in section.model_fields.items():
            default = _default(info).replace("|", "\\|")
            meaning = _setting_text(info).replace("|", "\\|")
            rows.append(f"| `{name}.{key}` | `{default}` | {meaning}{_limits(info)} |")
        blocks.append("\n".join(rows) + "\n")
    return "".join(blocks)


def toml_value(value: Any) -> str:
    """`value` as TOML text. Secrets are not masked: this is for defaults, which hold none."""
    match value:
        case SecretStr():
            return json.dumps(value.get_secret_value())
        case Path():
            return json.dumps("" if value == Path() else str(value))
        case bool():
            return "true" if value else "false"
        case list():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case dict():
            return (
                "{"
                + ", ".join(
                    f"{json.dumps(key)} = {toml_value(item)}" for key, item in value.items()
                )
                + "}"
            )
        case str():
            return json.dumps(value)
        case Section():
            return toml_value(value.model_dump())
        case _:
            return str(value)


def _sections() -> list[tuple[str, type[Section]]]:
    return [
        (name, info.annotation)
        for name, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
    ]


def _default(info: FieldInfo) -> str:
    return toml_value(info.get_default(call_default_factory=True))


def _setting_text(info: FieldInfo) -> str:
    return " ".join((info.description or "").split())


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")


def _section_text(section: type[Section]) -> str:
    return " ".join((inspect.getdoc(section) or "").partition("\n\n")[0].split())


def _limits(info: FieldInfo) -> str:
    bounds = {type(item).__name__.lower(): item for item in info.metadata}
    low, high = getattr(bounds.get("ge"), "ge", None), getattr(bounds.get("le"), "le", None)
    if low is not None and high is not None:
        return f" ({low} to {high})"
    return ""
