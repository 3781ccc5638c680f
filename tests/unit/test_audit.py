"""`make audit` reports a known vulnerability and a package that was not checked, and passes over
those that are allowed for a reason.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec and spec.loader
    module = sys.modules["audit"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_vulnerable_python_package_is_found_unless_it_is_allowed(audit: ModuleType) -> None:
    fault = {"id": "PYSEC-1", "aliases": ["GHSA-a"], "fix_versions": ["2.0"]}
    packages = [
        {"name": "safe", "version": "1.0", "vulns": []},
        {"name": "old", "version": "1.0", "vulns": [fault]},
    ]
    findings = audit.pip_findings({"dependencies": packages})
    assert findings == [audit.Finding("old 1.0", "PYSEC-1 GHSA-a", "fixed in 2.0")]
    assert audit.left(findings, {"GHSA-a": "never called"}) == []
    assert audit.left(findings, {"GHSA-b": "never called"}) == findings


def test_a_package_that_was_not_checked_is_a_finding(audit: ModuleType) -> None:
    skipped = {"name": "x", "version": "1", "skip_reason": "not found"}
    assert audit.pip_findings({"dependencies": [skipped]}) == [
        audit.Finding("x 1", "", "not found")
    ]
    assert audit.npm_findings({"message": "405"}) == [audit.Finding("npm", "", "405")]


def test_a_vulnerable_npm_package_is_found(audit: ModuleType) -> None:
    via = {"name": "a", "url": "https://github.com/advisories/GHSA-c", "title": "bad"}
    report = {"vulnerabilities": {"a": {"via": [via]}, "b": {"via": ["a"]}}}
    assert audit.npm_findings(report) == [audit.Finding("a", "GHSA-c", "bad")]


def test_each_allowed_vulnerability_has_a_reason(audit: ModuleType) -> None:
    audit.allowed_ids(audit.ALLOWED.read_text())
    with pytest.raises(ValueError, match="GHSA-a"):
        audit.allowed_ids('[[allowed]]\nid = "GHSA-a"\n')
