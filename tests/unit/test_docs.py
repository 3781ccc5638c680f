"""The documentation lists everything that exists, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from orchestrator.metrics import INSTRUMENTS
from orchestrator.settings import Auth, Uploads
from orchestrator.settings.loader import FIELDS
from orchestrator.web import routes
from orchestrator.web.activity_routes import ActivityRoutes
from orchestrator.web.api.api_factory import Api
from orchestrator.web.api.operation_table import Resources, build_operations
from orchestrator.web.api.operations import OperationRouter
from orchestrator.web.collection_routes import CollectionRoutes
from orchestrator.web.direct_routes import DirectRoutes
from orchestrator.web.manifest_routes import ManifestRoutes
from orchestrator.web.manifest_viewer import ManifestViewer
from orchestrator.web.result_routes import ResultRoutes
from orchestrator.web.sign_in.access_routes import AccessRoutes
from orchestrator.web.sign_in.viewer_routes import ViewerRoutes
from orchestrator.web.static_files import StaticFiles
from orchestrator.web.tus_routes import TusRoutes
from orchestrator.web.view_routes import ViewRoutes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = writer()


@pytest.mark.parametrize("path", WRITER.documents(), ids=lambda path: path.name)
def test_generated_documents_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITER.documents()[path], "run `make docs`"


def test_each_setting_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_0-9]+)` \|", (DOCS / "settings.md").read_text(), re.M)
    assert rows == list(FIELDS)


def test_each_metric_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `(orchestrator_\w+)` \|", (DOCS / "metrics.md").read_text(), re.M)
    assert sorted(rows) == sorted(instrument.name for instrument in INSTRUMENTS)


def test_each_command_is_documented_with_a_text_and_no_other() -> None:
    headings = re.findall(r"^## (.+)$", (DOCS / "cli.md").read_text(), re.M)
    assert headings == [words.removeprefix("orchestrator ") for words, _ in WRITER.commands()]
    assert [words for words, command in WRITER.commands() if not command.help] == []


def test_each_option_of_each_command_has_a_text() -> None:
    without_text = [
        f"{words} {parameter.name}"
        for words, command in WRITER.commands()
        for parameter in command.params
        if parameter.name != "help" and not getattr(parameter, "help", None)
    ]
    assert without_text == []


def stand_in(*names: str) -> Any:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response()

    return SimpleNamespace(**dict.fromkeys(names, handler))


def an_api() -> Api:
    """The table of operations, with handlers that do nothing."""
    handlers: Any = SimpleNamespace(**{field.name: _AnyHandlers() for field in fields(Resources)})
    desk: Any = OperationRouter(None, None)  # type: ignore[arg-type]  # never asked
    return Api(desk, build_operations(handlers, 1), StaticFiles({}))


class _AnyHandlers:
    """Has every handler as attribute."""

    def __getattr__(self, _name: str) -> Any:
        return None


def upload_extras() -> list[routes.RouteGroup]:
    """The further routes, with services that do nothing."""
    services: Any = SimpleNamespace(partial=None)
    addresses: Any = None
    return [
        DirectRoutes(services, addresses, pages=addresses, settings=Uploads()),
        TusRoutes(services, addresses, path="/tus", max_bytes=1),
        ActivityRoutes(services, services, services, addresses, 3),
    ]


def pages() -> list[Any]:
    nothing: Any = None
    view: dict[str, Any] = dict.fromkeys(signature(ViewRoutes).parameters)
    manifests: dict[str, Any] = dict.fromkeys(signature(ManifestRoutes).parameters)
    results: dict[str, Any] = dict.fromkeys(signature(ResultRoutes).parameters)
    return [
        CollectionRoutes(nothing, nothing, nothing, nothing, default_version=3),
        ViewRoutes(**view),
        ManifestViewer(nothing, nothing),
        ManifestRoutes(**manifests),
        ResultRoutes(**results),
        StaticFiles({}),
    ]


def sign_in_routes() -> list[routes.RouteGroup]:
    """The routes of sign-in, with services that do nothing."""
    viewers: dict[str, Any] = dict.fromkeys(signature(ViewerRoutes).parameters)
    access: dict[str, Any] = dict.fromkeys(signature(AccessRoutes).parameters)
    access["settings"] = Auth()
    return [ViewerRoutes(**viewers), AccessRoutes(**access)]


@web.middleware
async def passing(request: web.Request, handler: Any) -> web.StreamResponse:
    response: web.StreamResponse = await handler(request)
    return response


def fixed_parts(paths: list[str]) -> set[str]:
    """The fixed part of each path: `/iiif-img` for `/iiif-img/{image:...}`."""
    return {re.split(r"[{\[]|\.\.\.", path)[0].rstrip("/") or "/" for path in paths}


@pytest.mark.parametrize("port", ["Public", "Private"])
def test_each_route_is_documented_and_no_other(port: str) -> None:
    middleware: Any = SimpleNamespace(handle=passing)
    health = stand_in("live", "ready")
    app = (
        routes.build_public_app(
            middleware,
            stand_in("handle"),
            health,
            ico=stand_in("handle", "purge", "purges"),
            uploads=SimpleNamespace(
                prefix="/",
                **vars(
                    stand_in(
                        "ping",
                        "active",
                        "upload",
                        "expect",
                        "publish",
                        "recrop",
                        "rotate",
                        "delete",
                    )
                ),
            ),
            more=[*pages(), *upload_extras(), *sign_in_routes()],
        )
        if port == "Public"
        else routes.build_private_app(middleware, health, stand_in("show"), an_api())
    )
    served = fixed_parts(
        [route.resource.canonical for route in app.router.routes() if route.resource]
    )
    section = (DOCS / "http.md").read_text().partition(f"## {port} port")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", section, re.M)
    named = fixed_parts([path for cell in cells for path in re.findall(r"`([^`]+)`", cell)])
    documented = {re.sub(r"^/iiif/[23]$", "/iiif", path) for path in named}
    assert documented == served


def test_links_between_documents_lead_to_existing_files() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            if not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert broken == []


def test_the_code_names_only_existing_decision_records() -> None:
    named = {
        reference
        for path in (ROOT / "orchestrator").rglob("*.py")
        for reference in re.findall(r"docs/adr/[\w-]+\.md", path.read_text())
    }
    assert [reference for reference in sorted(named) if not (ROOT / reference).exists()] == []


def names_in(path: Path) -> set[str]:
    """Every function and class of a module; methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name")}
    return names


def test_architecture_names_only_modules_and_functions_that_exist() -> None:
    text = " ".join((DOCS / "architecture.md").read_text().split())
    package = ROOT / "orchestrator"
    named = re.findall(r"`([\w/]+\.py)`(?: `([\w.]+)`)?", text)
    assert len(named) > 30
    assert [path for path, _ in named if not (package / path).exists()] == []
    missing = [
        f"{path} {name}" for path, name in named if name and name not in names_in(package / path)
    ]
    assert missing == []


FAULTS = ("away", "hung", "slow", "full", "lying", "read-only", "killed", "set back", "set forward")
PROMISED = {
    "database": ("away", "hung", "slow", "full", "lying", "killed"),
    "object store": ("away", "hung", "slow", "full", "lying", "killed"),
    "disk": ("away", "hung", "slow", "full", "lying", "read-only"),
    "decode worker": ("hung", "slow", "full", "lying", "killed"),
    "image server": ("away", "hung", "slow", "full", "lying", "killed"),
    "origin": ("away", "hung", "slow", "full", "lying", "killed"),
    "clock": ("set back", "set forward"),
    "queue (SQS)": ("away", "slow", "lying"),
    "CDN": ("away", "hung", "lying"),
    "webhook": ("away", "hung", "lying"),
    "identity provider": ("away", "hung", "lying"),
    "served folder": ("away",),
    "other customers": ("slow", "full"),
    "worker": ("slow", "killed"),
    "process": ("killed",),
}
"""The pairs of dependency and fault that have a promise, in the order of the table. A fault that a
dependency does not have is left out: a decode worker is a part of its process and never away.
"""


@dataclass(frozen=True)
class PromiseRow:
    """A row of the table of faults. `faults` are what stands before the colon of its cell."""

    dependencies: list[str]
    faults: list[str]
    promise: str
    tests: str


def promise_rows() -> list[PromiseRow]:
    text = (DOCS / "operations.md").read_text()
    section = text.partition("## Faults and what is promised")[2].partition("\n## ")[0]
    rows = [row.strip("|").split("|") for row in section.splitlines() if row.startswith("|")][2:]
    return [
        PromiseRow(
            [each.strip() for each in dependency.split(",")],
            [each.partition("(")[0].strip() for each in fault.partition(":")[0].split(",")],
            promise.strip(),
            tests,
        )
        for dependency, fault, promise, tests in rows
    ]


def test_each_promise_for_a_fault_names_a_test_that_exists() -> None:
    for row in promise_rows():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row.tests)
        assert named, row
        assert [
            f"{path}::{name}" for path, name in named if name not in names_in(ROOT / path)
        ] == []


def test_the_security_page_names_only_settings_and_tests_that_exist() -> None:
    text = (DOCS / "security.md").read_text()
    sections = "|".join(sorted({name.partition(".")[0] for name in FIELDS}))
    settings = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", text))
    assert len(settings) > 20
    assert sorted(settings - set(FIELDS)) == []
    rows = text.partition("## What stops it")[2].partition("\n## ")[0].splitlines()
    for row in [each for each in rows if each.startswith("| ")][1:]:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        missing = [f"{path}::{name}" for path, name in named if name not in names_in(ROOT / path)]
        assert missing == []


def test_each_fault_of_each_dependency_has_a_promise() -> None:
    promised = {
        (dependency, fault)
        for row in promise_rows()
        for dependency in row.dependencies
        for fault in row.faults
    }
    wanted = {(dependency, fault) for dependency in PROMISED for fault in PROMISED[dependency]}
    assert sorted(wanted - promised) == []


def test_the_table_of_faults_is_sorted_and_its_promises_are_sentences() -> None:
    rows = promise_rows()
    of_one = [row for row in rows if row.dependencies[0] in PROMISED and len(row.dependencies) == 1]
    order = [
        (list(PROMISED).index(row.dependencies[0]), FAULTS.index(row.faults[0])) for row in of_one
    ]
    assert order == sorted(order)
    assert [row for row in rows if not re.fullmatch(r"[A-Z`].*\.", row.promise)] == []
    assert [row for row in rows if row.promise == "The same."] == []


def test_decision_records_say_status_context_decision_consequences_and_how_enforced() -> None:
    parts = ("status", "context", "decision", "consequences", "enforced")
    incomplete = [
        f"{path.name}: {each}"
        for path in sorted((DOCS / "adr").glob("*.md"))
        for each in parts
        if each not in path.read_text().lower()
    ]
    assert incomplete == []


def test_each_decision_record_has_a_number_of_its_own_in_its_name_and_title() -> None:
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert len(set(numbers)) == len(numbers)
    titles = [path.read_text().splitlines()[0] for path in records]
    assert [title.split(".")[0] for title in titles] == [f"# {number}" for number in numbers]


def test_the_readme_opens_with_one_sentence_the_two_commands_and_a_curl() -> None:
    text = (ROOT / "README.md").read_text()
    places = [text.index(each) for each in ("answers IIIF", "make run", "make test", "curl ")]
    assert places == sorted(places)
    assert places[-1] < 800
