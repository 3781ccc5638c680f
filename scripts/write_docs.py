"""Writes the documents that are generated from the code: config/default.toml, the tables of
settings, commands and metrics, the operations of the API, and the sizing.

`tests/unit/test_docs.py` compares the files with the same functions, so that they are never out of
date.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from orchestrator.cli.command_tree import build
from orchestrator.metrics import INSTRUMENTS
from orchestrator.settings import ALIASES, default_toml, settings_table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))  # a test loads this file by its path
import openapi_page  # noqa: E402
import sizing_page  # noqa: E402

_KINDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH", "path": "PATH"}

SETTINGS_HEAD = """\
# Settings

Later sources override earlier ones: defaults, a TOML file (`--config FILE` or
`ORCHESTRATOR_CONFIG`), the environment, the command line. In the environment the setting
`cache.memory` is `ORCHESTRATOR_CACHE__MEMORY`. Lists and tables are written as TOML or JSON, lists
also with commas. Amounts of bytes may be text (`"500MB"`, `"2GiB"`). Times are in seconds.

[config/default.toml](../config/default.toml) has all settings, to copy from. `orchestrator config
check` reports all faults at once. `orchestrator config show` shows where each value comes from.

Variables of the systems that this product replaces are read, too: {aliases}. With
`ACTIVE_PREFIX=X` these are `X_ENDPOINT`, `X_DEFAULT_REGION`, `X_ACCESS_KEY_ID` and `X_SECRET_KEY`,
too, for the settings `uploads.active_endpoint` and so on; `INCOMING_PREFIX` does the same for
`uploads.incoming_endpoint` and so on. An empty variable counts as unset.

`make docs` writes this page.
"""
CLI_HEAD = """\
# Commands

Every command that needs settings takes `--config FILE` and `--data DIR`. Exit status: 0 done, 1
failed (one line for each error on standard error says what to do), 2 wrong usage. Long work shows a
progress bar on a terminal and plain lines elsewhere. Every listing has `--json`.

`make docs` writes this page.
"""
METRICS_HEAD = """\
# Metrics

`GET /metrics` on the private port returns these metrics in the text format of Prometheus, summed
over all processes of the installation (docs/adr/0008-multi-process-metrics.md). `make docs` writes
this page from `orchestrator/metrics/`.

| name | type | labels | meaning |
|---|---|---|---|
"""


def documents() -> dict[Path, str]:
    """The text of every generated file, by path."""
    return {
        ROOT / "config" / "default.toml": default_toml(),
        ROOT / "docs" / "settings.md": settings_document(),
        ROOT / "docs" / "cli.md": cli_document(),
        ROOT / "docs" / "metrics.md": metrics_document(),
        ROOT / "docs" / "openapi.md": openapi_page.document(),
        ROOT / "docs" / "sizing.md": sizing_page.document(),
    }


def settings_document() -> str:
    """The text of docs/settings.md."""
    aliases = ", ".join(f"`{variable}` (`{name}`)" for variable, name in ALIASES.items())
    return SETTINGS_HEAD.format(aliases=aliases) + settings_table()


def metrics_document() -> str:
    """The text of docs/metrics.md."""
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels) or '–'} | {each.help} |\n"
        for each in INSTRUMENTS
    ]
    return METRICS_HEAD + "".join(rows)


def cli_document() -> str:
    """The text of docs/cli.md: every command with its arguments and options."""
    return CLI_HEAD + "".join(_command(words, command) for words, command in commands())


def commands() -> list[tuple[str, Any]]:
    """Every command that is not a group, with the words that call it."""
    leaves: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any]] = [("orchestrator", get_command(build()))]
    while waiting:
        words, command = waiting.pop(0)
        inner = getattr(command, "commands", None)
        if inner is None:
            leaves.append((words, command))
        else:
            waiting += [(f"{words} {name}", each) for name, each in inner.items()]
    return leaves


def _command(words: str, command: Any) -> str:
    usage = [words]
    rows = []
    for parameter in command.params:
        text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name).upper().removesuffix("...")
            name += "..." if parameter.nargs == -1 else ""
            usage.append(name if parameter.required else f"[{name}]")
            rows.append(f"| `{name}` | {text} |\n")
        elif "--help" not in parameter.opts:
            rows.append(f"| `{_option(parameter)}` | {text}{_default(parameter)} |\n")
    text = " ".join(inspect.cleandoc(command.help or "").split())
    table = "| | |\n|---|---|\n" + "".join(rows) if rows else ""
    return (
        f"\n## {words.removeprefix('orchestrator ')}\n\n    {' '.join(usage)}\n\n{text}\n\n{table}"
    )


def _option(parameter: Any) -> str:
    names = "/".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or _KINDS[parameter.bare_type()]}"


def _default(parameter: Any) -> str:
    value = parameter.default
    if value in (None, "", False) or parameter.required:
        return ""
    return f" [{value}]"


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
