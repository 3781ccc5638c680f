"""The outcome of each file of a corpus run, the table by format, and the JSON form."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

RIGHT, WRONG, REFUSED, UNCOMPARED, FAILED, UNASKED = (
    "right",
    "wrong",
    "refused",
    "no reference",
    "5xx",
    "not asked",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one file. `code` is that of a refusal; `is_readable` if another program
    reads the file.
    """

    path: str
    kind: str
    verdict: str
    code: str = ""
    reason: str = ""
    decoder: str = ""
    is_readable: bool = False
    is_info_refused: bool = False
    slowest_s: float = 0.0
    slowest: str = ""


@dataclass(frozen=True, slots=True)
class Workers:
    """The decode workers of the server that served the files of one format: how many ended, and the
    largest resident memory of one.
    """

    deaths: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run: the outcomes, and the workers for each format."""

    policy: str
    outcomes: tuple[Outcome, ...]
    workers: dict[str, Workers]
    seconds: float
    versions: dict[str, str]

    @property
    def worker_deaths(self) -> int:
        """How many decode workers ended."""
        return sum(each.deaths for each in self.workers.values())

    @property
    def peak_worker_bytes(self) -> int:
        """The largest resident memory of a decode worker."""
        return max((each.peak_bytes for each in self.workers.values()), default=0)

    @property
    def is_good(self) -> bool:
        """True if no picture is wrong, no answer is a 5xx, no worker died and no file is left."""
        bad = {WRONG, FAILED, UNASKED}
        return not self.worker_deaths and not any(each.verdict in bad for each in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """The run as values that `json.dumps` accepts."""
        return {
            "policy": self.policy,
            "worker_deaths": self.worker_deaths,
            "peak_worker_bytes": self.peak_worker_bytes,
            "seconds": round(self.seconds, 1),
            "versions": self.versions,
            "table": rows(self),
            "files": [asdict(each) for each in self.outcomes],
        }


def rows(run: Run) -> list[dict[str, Any]]:
    """The rows of the table: one for each format, the last for all."""
    found = [
        _row(kind, [o for o in run.outcomes if o.kind == kind], run.workers[kind])
        for kind in sorted({each.kind for each in run.outcomes})
    ]
    total = Workers(run.worker_deaths, run.peak_worker_bytes)
    return [*found, _row("all", list(run.outcomes), total)]


def _row(kind: str, outcomes: list[Outcome], workers: Workers) -> dict[str, Any]:
    verdicts = Counter(each.verdict for each in outcomes)
    codes = Counter(each.code for each in outcomes if each.verdict == REFUSED)
    return {
        "format": kind,
        "files": len(outcomes),
        **{name: verdicts[name] for name in (RIGHT, WRONG, FAILED, UNCOMPARED, REFUSED, UNASKED)},
        "codes": dict(codes.most_common()),
        "readable": sum(each.verdict == REFUSED and each.is_readable for each in outcomes),
        "worker_deaths": workers.deaths,
        "slowest_s": round(max((each.slowest_s for each in outcomes), default=0), 1),
        "peak_worker_bytes": workers.peak_bytes,
    }


def print_run(run: Run, console: Console) -> None:
    """The table, then a line for each file that is wrong, 5xx, or refused though another program
    reads it.
    """
    table = Table(title=f"policy {run.policy}, {run.seconds:.0f} s")
    columns = ("format", "files", RIGHT, WRONG, FAILED, UNCOMPARED, REFUSED, UNASKED)
    for name in (*columns, "codes of refusals", "worker deaths", "slowest", "memory"):
        table.add_column(
            name, justify="left" if name in ("format", "codes of refusals") else "right"
        )
    for row in rows(run):
        codes = ", ".join(f"{code} {count}" for code, count in row["codes"].items())
        memory = f"{row['peak_worker_bytes'] / 1024**2:.0f} MiB"
        table.add_row(*(str(row[name]) for name in columns), codes, str(row["worker_deaths"]),
                      f"{row['slowest_s']} s", memory)  # fmt: skip
    console.print(table)
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    console.print(f"memory: the largest of one decode worker; {versions}")
    for verdict, title in ((WRONG, "wrong"), (FAILED, "5xx"), (UNASKED, "not asked: time limit")):
        _print_files(title, [o for o in run.outcomes if o.verdict == verdict], console)
    refused = [o for o in run.outcomes if o.verdict == REFUSED and o.is_readable]
    _print_files("refused, though another program reads the file", refused, console)


def _print_files(title: str, outcomes: list[Outcome], console: Console) -> None:
    if not outcomes:
        return
    console.print(f"\n{title}:")
    for each in outcomes:
        detail = " ".join(part for part in (each.code, each.reason) if part)
        console.print(f"  {each.path}: {detail} [{each.decoder}]", markup=False, highlight=False)
