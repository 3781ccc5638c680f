"""`cache simulate`: how often a disk cache of some quota and policy would have had the answer."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from orchestrator.cli.output import print_json, print_line, print_warning
from orchestrator.cli.plotting import human, svg, terminal
from orchestrator.cli.session import Session, command
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.scavenger.simulator import Outcome, Simulation
    from orchestrator.scavenger.traces import Request

_AT_ONCE = 20_000
_AROUND = (0.05, 0.1, 0.25, 0.5, 1, 2)
"""Of the configured quota, when none is given."""
_LIKELY = ("lru", "s3-fifo", "sieve", "w-tinylfu")


@command()
def simulate(  # noqa: PLR0913, PLR0917  a command's options are its parameters
    session: Session,
    logs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ACCESS_LOG", help="JSON-lines access logs; .gz, - for stdin."),
    ] = None,
    quota: Annotated[
        list[str] | None,
        typer.Option(metavar="BYTES", help="A quota to try, such as 10GB; may be repeated."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="lru, s3-fifo, sieve, w-tinylfu, belady; may be repeated."
        ),
    ] = None,
    cache: Annotated[
        Literal["derivatives", "sources"],
        typer.Option(metavar="CACHE", help="The disk cache to size, or sources."),
    ] = "derivatives",
    source_bytes: Annotated[
        str, typer.Option(metavar="BYTES", help="Mean size of a source: the log does not tell it.")
    ] = "30MB",
    memory: Annotated[
        bool, typer.Option("--memory", help="Count what the memory tier answered, too.")
    ] = False,
    sample: Annotated[
        float, typer.Option(help="Look at this part of the keys only (SHARDS): 0.1 for a tenth.")
    ] = 1.0,
    trace: Annotated[
        Literal["long-tail"] | None,
        typer.Option(metavar="long-tail", help="Generate a trace instead of reading one."),
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="Requests of the trace.")
    ] = 1_000_000,
    objects: Annotated[
        int, typer.Option(min=2, metavar="NUMBER", help="Different answers in it.")
    ] = 1_000_000,
    crawlers: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="Crawlers that go through all of them.")
    ] = 3,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Write the plot as SVG.")
    ] = None,
) -> None:
    """Say how often a disk cache would have had the answer, by quota and eviction policy, from an
    access log or a generated trace.
    """
    from orchestrator.scavenger.simulator import ALL_POLICIES, Simulation
    from orchestrator.scavenger.traces import LogReader, LongTail

    policies = _among(policy or list(_LIKELY), ALL_POLICIES)
    if not 0 < sample <= 1:
        raise InvalidInput("--sample is a part of 1, such as 0.1.")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise InvalidInput("--plot writes SVG: name a file that ends in .svg.")
    if bool(logs) == bool(trace):
        raise InvalidInput("Name an access log, or --trace long-tail.")
    quotas = [_bytes(each) for each in quota or []] or _around(
        getattr(session.load().settings.cache, f"{cache}_quota")
    )
    simulation = Simulation(policies, sorted(set(quotas)), sample)
    reader = LogReader(cache, memory, _bytes(source_bytes))
    if trace:
        generated = LongTail(requests, objects, crawlers)
        _feed(simulation, _counted(generated.read(), requests), quiet=session.as_json)
    else:
        with ExitStack() as files:
            _feed(simulation, _of_logs(reader, logs or [], files), quiet=session.as_json)
    outcomes = list(simulation.outcomes())
    if plot is not None:
        _write(plot, svg(outcomes, _title(simulation)))
    if session.as_json:
        print_json(_as_json(simulation, outcomes, reader))
    else:
        _print(simulation, outcomes, reader)


def _among(wanted: list[str], known: Sequence[str]) -> list[str]:
    unknown = [each for each in wanted if each not in known]
    if unknown:
        raise InvalidInput(f"There is no policy {unknown[0]}: {', '.join(known)}.")
    return list(dict.fromkeys(wanted))


def _bytes(text: str) -> int:
    from orchestrator.settings.field_types import parse_bytes

    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise InvalidInput(f"{text} is no amount of bytes such as 500MB or 2GiB.") from error
    if not isinstance(size, int) or size <= 0:
        raise InvalidInput("A quota or size to try is more than 0 bytes.")
    return size


def _around(configured: int) -> list[int]:
    return [int(part * (configured or 10 * 1000**3)) for part in _AROUND]


def _counted(trace: Iterable[Request], total: int) -> Iterator[tuple[float, list[Request]]]:
    """Parts of the trace, each with how far it brings us (0 to 1)."""
    source, done = iter(trace), 0
    while part := list(islice(source, _AT_ONCE)):
        done += len(part)
        yield done / total, part


def _of_logs(
    reader: Any, logs: list[Path], files: ExitStack
) -> Iterator[tuple[float, list[Request]]]:
    """The same of log files, by the bytes read of each."""
    for number, path in enumerate(logs):
        raw, lines, size = _opened(path, files)
        source = iter(reader.read(lines))
        try:
            while part := list(islice(source, _AT_ONCE)):
                at = raw.tell() / size if size else 0.0
                yield (number + min(at, 1.0)) / len(logs), part
        except (OSError, EOFError) as error:
            raise InvalidInput(f"{path} cannot be read to its end: {error}.") from error


def _opened(path: Path, files: ExitStack) -> tuple[IO[bytes], Iterable[bytes], int]:
    """(file, its lines, its bytes; 0 where they cannot be known)."""
    if str(path) == "-":
        return sys.stdin.buffer, sys.stdin.buffer, 0
    try:
        raw = files.enter_context(path.open("rb"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    if path.suffix != ".gz":
        return raw, raw, path.stat().st_size
    return raw, files.enter_context(gzip.GzipFile(fileobj=raw)), path.stat().st_size


def _feed(
    simulation: Simulation, parts: Iterable[tuple[float, list[Request]]], *, quiet: bool
) -> None:
    shown = sys.stderr.isatty() and not quiet
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task("simulating", total=1.0)
        for done, part in parts:
            simulation.feed(part)
            bar.update(task, completed=done)


def _print(simulation: Simulation, outcomes: list[Outcome], reader: Any) -> None:
    print_line(_title(simulation))
    for reason, lines in sorted(reader.skipped.items()):
        print_warning(f"{lines} lines not counted: {_REASONS[reason]}")
    if not simulation.requests:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    policies = list(dict.fromkeys(each.policy for each in outcomes))
    table.add_column("quota", justify="right")
    for policy in policies:
        table.add_column(policy, justify="right")
        table.add_column("of bytes", justify="right", style="dim")
    for quota in dict.fromkeys(each.quota for each in outcomes):
        cells = [
            text
            for policy in policies
            for each in outcomes
            if (each.policy, each.quota) == (policy, quota)
            for text in (f"{each.hit_ratio:.1%}", f"{each.byte_hit_ratio:.1%}")
        ]
        table.add_row(human(quota), *cells)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(terminal(outcomes, 72, 16), markup=False, highlight=False)


_REASONS = {
    "broken": "no lines of an access log",
    "other": "not answers that this cache keeps",
    "memory": "answered by the memory tier; --memory counts them",
}


def _as_json(simulation: Simulation, outcomes: list[Outcome], reader: Any) -> dict[str, Any]:
    keys, size = simulation.working_set
    return {
        "requests": simulation.requests,
        "bytes": simulation.bytes,
        "distinct": keys,
        "distinctBytes": size,
        "skipped": dict(reader.skipped),
        "outcomes": [asdict(each) for each in outcomes],
    }


def _title(simulation: Simulation) -> str:
    keys, size = simulation.working_set
    return f"{simulation.requests:,} requests for about {keys:,} answers of {human(size)} together"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from error
