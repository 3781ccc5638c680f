"""Runs wrk, and reads requests per second and latency percentiles from its report."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

CONNECTIONS = 16
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class LoadError(RuntimeError):
    """wrk is not installed, or some responses were not those that the bench must measure."""


@dataclass(frozen=True)
class Load:
    """The result of one run of wrk."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    requests: int

    def figures(self) -> dict[str, float]:
        return {
            "requests/s": self.requests_s,
            "p50": self.p50_ms,
            "p99": self.p99_ms,
            "requests": self.requests,
        }


def wrk(url: str, *, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Send requests for one URL over keep-alive connections from one thread. Raises LoadError."""
    program = shutil.which("wrk")
    if program is None:
        raise LoadError("wrk is not installed: apt-get install wrk")
    words = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return parse(text)


def parse(text: str) -> Load:
    """Read the report of wrk. Raises LoadError if a response was not 2xx or 3xx, or a connection
    failed.
    """
    if bad := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text):
        raise LoadError(bad[0])
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None:
        raise LoadError(f"the report of wrk has no request rate: {text[:200]}")
    count = re.search(r"^\s*(\d+) requests in", text, re.MULTILINE)
    requests = int(count[1]) if count else 0
    return Load(float(rate[1]), _percentile(text, "50"), _percentile(text, "99"), requests)


def _percentile(text: str, percent: str) -> float:
    match = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE)
    return float(match[1]) * _UNITS_MS[match[2]] if match else float("nan")
