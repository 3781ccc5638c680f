"""/openapi.json: a valid document of exactly the existing routes. Requests that schemathesis
generates from it get only responses that it describes.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator

from tests.integration.api.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[3]
HOOKS = "tests.support.schemathesis_hooks"
CONFIG = """
[parameters]
"path.customer" = 1
"path.space" = 1

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 502, 503, 504, 507]
"""
"""502 and the like are allowed, because generated origins cannot be reached; 500 is a failure."""
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
]


async def exercise(house: House, folder: Path, *, examples: int, seconds: int, seed: int) -> None:
    """Run schemathesis against the API; a finding fails the test with a reproducible report."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    command = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(str(command), "--config-file", str(config), "run"),
        *(f"http://127.0.0.1:{house.port}/openapi.json", "--no-color", "--continue-on-failure"),
        *("-H", f"Authorization: Bearer {house.admin}", "--checks", ",".join(CHECKS)),
        *("--max-examples", str(examples), "--max-time", str(seconds), "--workers", "1"),
        *("--seed", str(seed)),
        *("--phases", "examples,coverage,fuzzing", "--warnings", "off", "--no-shrink"),
        *("--generation-database", "none", "--request-timeout", "20"),
        *("--suppress-health-check", "all"),
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    report = re.sub(r"(%[0-9A-F]{2}){40,}", "%..", out.decode(errors="replace"))
    assert process.returncode == 0, report[:12_000] + report[-3000:]
    assert re.search(r"Operations:\s+[4-9]\d", report), report[-3000:]


async def test_the_document_is_valid_openapi_3_1_with_valid_schemas(house: House):
    document = (await house.ask("GET", "/openapi.json", key="")).json
    assert document["openapi"] == "3.1.0"
    names = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(names) == len(set(names)) >= 40
    for schema in document["components"]["schemas"].values():
        Draft202012Validator({**schema, "components": document["components"]})
    ingest = document["paths"]["/asset-ingest"]["post"]
    assert set(ingest["responses"]) >= {"200", "202", "400", "404", "422", "502", "504", "507"}
    assert ingest["security"] == [{"bearer": []}, {"basic": []}]
    assert document["paths"]["/openapi.json"]["get"]["security"] == []


async def test_generated_requests_get_only_responses_that_the_document_describes(
    house: House, tmp_path: Path
):
    await exercise(house, tmp_path, examples=2, seconds=25, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_many_generated_requests_get_only_responses_that_the_document_describes(
    house: House, tmp_path: Path
):
    await exercise(house, tmp_path, examples=200, seconds=1200, seed=secrets.randbits(32))
