"""wrk as a function: requests per second and latency percentiles of one address."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

CONNECTIONS = 16
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class LoadError(RuntimeError):
    """wrk is missing, or some answers were not what was to be measured."""


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests_s: float
    p50_ms: float
    p99_ms: float

    def figures(self) -> dict[str, float]:
        return {"requests/s": self.requests_s, "p50": self.p50_ms, "p99": self.p99_ms}


def wrk(url: str, *, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Load one address over keep-alive connections from one thread. Raises LoadError."""
    program = shutil.which("wrk")
    if program is None:
        raise LoadError("wrk is not installed: apt-get install wrk")
    words = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return parse(text)


def parse(text: str) -> Load:
    """Read wrk's report. Raises LoadError where any answer was not 2xx or 3xx, or broke."""
    if bad := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text):
        raise LoadError(bad[0])
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None:
        raise LoadError(f"wrk said nothing to use: {text[:200]}")
    return Load(float(rate[1]), _percentile(text, "50"), _percentile(text, "99"))


def _percentile(text: str, which: str) -> float:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE)
    return float(found[1]) * _UNITS_MS[found[2]] if found else float("nan")
