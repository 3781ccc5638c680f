"""Reads settings from a TOML file, the environment and the command line, and reports all faults at
once.

The origin of each value (file and line, variable, option) is kept, so that a fault names the place
to correct and `config show` shows where a value comes from. The caller passes the environment;
nothing here reads `os.environ` or writes anything.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from orchestrator.errors import SettingsError
from orchestrator.settings.consistency import cross_section_faults
from orchestrator.settings.field_types import Section
from orchestrator.settings.replaced_variables import VERBATIM, read_aliases
from orchestrator.settings.sections import Settings

PREFIX = "ORCHESTRATOR_"
DEFAULT = "default"
COMMAND_LINE = "command line"

_REMOVED: Mapping[str, tuple[object, str]] = {
    "cache.sources_shared": (
        False,
        "was removed: hosts no longer share a source folder. Remove this line, and give each host "
        "its own cache.sources_folder. Let the load balancer send the requests for one image to "
        "one host (docs/operations.md).",
    ),
    "ingest.regex_timeout_s": (
        0.25,
        "was removed: a regex of an origin strategy takes linear time. Remove this line.",
    ),
}
"""Settings of earlier versions: the value that is ignored, and what to do about any other value."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each name (`server.port`) the origin of its value."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(slots=True)
class _Reading:
    """What was read so far: the value of each name that overrides the others, its origin, and every
    fault.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def set_value(self, name: str, value: Any, origin: str) -> None:
        """Set one value, which overrides earlier ones. An unknown name is a fault."""
        if name in _REMOVED:
            ignored, advice = _REMOVED[name]
            if str(value).lower() != str(ignored).lower():
                self.faults.append(f"{origin}: {name} {advice}")
            return
        if name not in FIELDS:
            self.faults.append(f"{origin}: {name} is not a setting{_suggestion(name, FIELDS)}")
            return
        self.values[name], self.origins[name] = value, origin

    def add_fault(self, name: str, problem: str) -> None:
        """Record a fault of the value of `name`, with the origin of that value."""
        self.faults.append(f"{self.origins.get(name, DEFAULT)}: {name}: {problem}")


def load(file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Settings:
    """The settings. `overrides` (dotted names) override `environ`, which overrides `file`, which
    overrides the defaults. Raises SettingsError with every fault.
    """
    return load_with_origins(file, environ, overrides).settings


def load_with_origins(
    file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> Loaded:
    """Like `load`, with the origin of each value."""
    reading = _Reading()
    if file is not None:
        _read_file(file, reading)
    _read_environment(environ, reading)
    for name, value in overrides.items():
        reading.set_value(name, value, COMMAND_LINE)
    _fill_paths(environ, reading)
    settings = _validated(reading)
    for name, problem in cross_section_faults(settings):
        reading.add_fault(name, problem)
    if reading.faults:
        raise SettingsError("\n".join(reading.faults))
    return Loaded(settings, {name: reading.origins.get(name, DEFAULT) for name in FIELDS})


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for section, declared in Settings.model_fields.items():
        kind = declared.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from ((f"{section}.{key}", info) for key, info in kind.model_fields.items())


FIELDS: Mapping[str, FieldInfo] = dict(_fields())
"""Every setting, by its dotted name."""


def _read_file(file: Path, reading: _Reading) -> None:
    try:
        text = file.read_text(encoding="utf-8")
        sections = tomllib.loads(text)
    except OSError as error:
        reading.faults.append(f"{file}: cannot be read: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reading.faults.append(f"{file}: is not TOML: {error}")
        return
    line_of = _line_finder(text)
    for section, content in sections.items():
        origin = f"{file}:{line_of(section, '')}"
        if section not in Settings.model_fields:
            guess = _suggestion(section, Settings.model_fields)
            reading.faults.append(f"{origin}: [{section}] is not a section{guess}")
        elif not isinstance(content, dict):
            reading.faults.append(
                f"{origin}: {section} is a section: write [{section}] and its settings below"
            )
        else:
            for key, value in content.items():
                reading.set_value(f"{section}.{key}", value, f"{file}:{line_of(section, key)}")


def _line_finder(text: str) -> Callable[[str, str], int]:
    """A function that returns the line of `section.key`, or of the section if the key has no
    line.
    """
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*\"?([\w-]+)", line):
            section = header[1]
            lines.setdefault((section, ""), number)
            if deeper := re.match(r"\s*\[+\s*\"?[\w-]+\"?\s*\.\s*\"?([\w-]+)", line):
                lines.setdefault((section, deeper[1]), number)
        elif pair := re.match(r"\s*\"?([\w-]+)\"?\s*(?:\.\s*\"?([\w-]+)\"?\s*)?[.=]", line):
            first, second = pair[1], pair[2] or ""
            lines.setdefault((section, first) if section else (first, second), number)
            if not section:
                lines.setdefault((first, ""), number)
    return lambda section, key: lines.get((section, key)) or lines.get((section, ""), 1)


def _read_environment(environ: Mapping[str, str], reading: _Reading) -> None:
    for variable, name, text in read_aliases(environ):
        value = [text] if variable in VERBATIM else _from_text(name, text)
        reading.set_value(name, value, variable)
    for variable in sorted(environ):
        # A name without a double underscore is no setting: Kubernetes sets ORCHESTRATOR_PORT for a
        # service named orchestrator.
        if variable.startswith(PREFIX) and "__" in variable:
            name = variable.removeprefix(PREFIX).lower().replace("__", ".", 1)
            reading.set_value(name, _from_text(name, environ[variable]), variable)


def _from_text(name: str, text: str) -> Any:
    """The value of a variable: lists and tables are parsed as TOML or JSON (a list also as text
    with commas); other text is returned unchanged.
    """
    declared = FIELDS.get(name)
    kind = get_origin(declared.annotation) if declared else None
    if kind not in (list, dict):
        return text
    for parse in (_toml, json.loads):
        try:
            return parse(text)
        except ValueError:
            continue
    items = [item.strip() for item in text.split(",") if item.strip()]
    return [int(item) if item.isdecimal() else item for item in items] if kind is list else text


def _toml(text: str) -> Any:
    return tomllib.loads(f"value = {text}")["value"]


def _fill_paths(environ: Mapping[str, str], reading: _Reading) -> None:
    """Set the defaults that depend on the user. Make every path absolute, so that a process may
    change its working directory.
    """
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    data_home = (
        Path(environ["XDG_DATA_HOME"])
        if environ.get("XDG_DATA_HOME")
        else home / ".local" / "share"
    )
    if not reading.values.get("server.data_dir"):
        reading.values["server.data_dir"] = data_home / "orchestrator"
    if not reading.values.get("storage.root"):
        reading.values["storage.root"] = Path(str(reading.values["server.data_dir"])) / "objects"
    for name in ("server.data_dir", "storage.root"):
        reading.values[name] = Path(str(reading.values[name])).expanduser().absolute()
    for name in ("temp_folder", "incoming_folder", "active_folder"):
        if folder := reading.values.get(f"uploads.{name}"):
            path = Path(str(folder)).expanduser().absolute()
            reading.values[f"uploads.{name}"] = str(path)
    access = reading.values.get("log.access", "off")
    if access not in ("off", "-") and isinstance(access, str):
        reading.values["log.access"] = str(Path(access).expanduser().absolute())


def _validated(reading: _Reading) -> Settings:
    """Settings from what was read. Faulty values are reported and replaced by their defaults, so
    that the rules between settings are checked, too.
    """
    try:
        return Settings.model_validate(_nested(reading.values))
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False):
            name = ".".join(str(part) for part in details["loc"][:2])
            position = "".join(
                f"[{part}]"
                for part in details["loc"][2:]
                if isinstance(part, int) or part in details["loc"][-1:]
            )
            shown = (
                ""
                if _holds_secret(FIELDS[name].annotation)
                else f" (it is {str(details['input'])[:60]!r})"
            )
            problem = details["msg"].removeprefix("Value error, ").replace("Input should", "should")
            reading.add_fault(name, f"{position + ' ' if position else ''}{problem}{shown}")
            reading.values.pop(name, None)
        return Settings.model_validate(_nested(reading.values))


def _holds_secret(annotation: Any) -> bool:
    """True if a value of this type, or a part of it, is a secret."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return any(_holds_secret(info.annotation) for info in annotation.model_fields.values())
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


def _nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    return nested


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not close:
        key = name.rpartition(".")[2]
        close = [candidate for candidate in known if candidate.rpartition(".")[2] == key]
    return f"; did you mean {close[0]}?" if close else ""
