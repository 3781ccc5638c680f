"""`cache simulate`: the hit ratio of a disk cache by quota and eviction policy."""

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
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Table

from orchestrator.cli.output import print_json, print_line, print_warning
from orchestrator.cli.session import Session, command
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.scavenger.simulator import Outcome, Simulation
    from orchestrator.scavenger.traces import LogReader, Request

_REQUESTS_AT_ONCE = 20_000
_DEFAULT_QUOTAS = (0.05, 0.1, 0.25, 0.5, 1, 2)
"""As parts of the configured quota."""


@command()
def simulate(  # noqa: PLR0913  the options of a command are its parameters
    session: Session,
    logs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ACCESS_LOG", help="JSON-lines access logs; .gz, - for stdin."),
    ] = None,
    *,
    quota: Annotated[
        list[str] | None,
        typer.Option(metavar="BYTES", help="A quota to simulate, such as 10GB; repeatable."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="lru, s3-fifo or belady (the best possible); repeatable; all by default.",
        ),
    ] = None,
    cache: Annotated[
        Literal["derivatives", "sources"],
        typer.Option(metavar="CACHE", help="The disk cache to simulate: derivatives or sources."),
    ] = "derivatives",
    source_bytes: Annotated[
        str,
        typer.Option(metavar="BYTES", help="Mean size of a source, which the log does not have."),
    ] = "30MB",
    memory: Annotated[
        bool, typer.Option("--memory", help="Include requests that the memory tier answered.")
    ] = False,
    sample: Annotated[
        float, typer.Option(help="Simulate this part of the keys (SHARDS): 0.1 is a tenth.")
    ] = 1.0,
    trace: Annotated[
        Literal["long-tail"] | None,
        typer.Option(metavar="long-tail", help="Generate a trace instead of reading one."),
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="Requests in the trace.")
    ] = 1_000_000,
    objects: Annotated[
        int, typer.Option(min=2, metavar="NUMBER", help="Different answers in the trace.")
    ] = 1_000_000,
    crawlers: Annotated[
        int,
        typer.Option(min=0, metavar="NUMBER", help="Crawlers that request all of them."),
    ] = 3,
) -> None:
    """Show the hit ratio that a disk cache would have, by quota and eviction policy, from access
    logs or a generated trace.
    """
    from orchestrator.scavenger.simulator import POLICIES, Simulation
    from orchestrator.scavenger.traces import LogReader, LongTail

    policies = _checked_policies(policy or list(POLICIES), POLICIES)
    if not 0 < sample <= 1:
        raise InvalidInput("--sample must be more than 0 and at most 1, such as 0.1.")
    if bool(logs) == bool(trace):
        raise InvalidInput("Name an access log or use --trace long-tail, not both.")
    quotas = [_parse_bytes(each) for each in quota or []] or _default_quotas(
        getattr(session.load().settings.cache, f"{cache}_quota")
    )
    simulation = Simulation(policies, sorted(set(quotas)), sample)
    reader = LogReader(cache, memory, _parse_bytes(source_bytes))
    if trace:
        generated = LongTail(requests, objects, crawlers)
        _feed(simulation, _with_progress(generated.read(), requests), quiet=session.as_json)
    else:
        with ExitStack() as files:
            _feed(simulation, _read_logs(reader, logs or [], files), quiet=session.as_json)
    outcomes = list(simulation.outcomes())
    if session.as_json:
        print_json(_as_json(simulation, outcomes, reader))
    else:
        _print(simulation, outcomes, reader)


def _checked_policies(names: list[str], known: Sequence[str]) -> list[str]:
    unknown = [each for each in names if each not in known]
    if unknown:
        raise InvalidInput(f"There is no policy {unknown[0]}. Use {', '.join(known)}.")
    return list(dict.fromkeys(names))


def _parse_bytes(text: str) -> int:
    from orchestrator.settings.field_types import parse_bytes

    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text} is not a number of bytes. Write it like 500MB or 2GiB."
        ) from error
    if not isinstance(size, int) or size <= 0:
        raise InvalidInput("A quota or size must be more than 0 bytes.")
    return size


def _default_quotas(configured: int) -> list[int]:
    return [int(part * (configured or 10 * 1000**3)) for part in _DEFAULT_QUOTAS]


def _with_progress(trace: Iterable[Request], total: int) -> Iterator[tuple[float, list[Request]]]:
    """Parts of the trace, each with the progress (0 to 1) after it."""
    source, done = iter(trace), 0
    while part := list(islice(source, _REQUESTS_AT_ONCE)):
        done += len(part)
        yield done / total, part


def _read_logs(
    reader: LogReader, logs: list[Path], files: ExitStack
) -> Iterator[tuple[float, list[Request]]]:
    """Parts of the logs, each with the progress (0 to 1) by bytes read of each file."""
    for number, path in enumerate(logs):
        raw, lines, size = _open_log(path, files)
        source = iter(reader.read(lines))
        try:
            while part := list(islice(source, _REQUESTS_AT_ONCE)):
                at = raw.tell() / size if size else 0.0
                yield (number + min(at, 1.0)) / len(logs), part
        except (OSError, EOFError) as error:
            raise InvalidInput(f"{path} cannot be read to its end: {error}.") from error


def _open_log(path: Path, files: ExitStack) -> tuple[IO[bytes], Iterable[bytes], int]:
    """(file, its lines, its size in bytes; 0 if unknown)."""
    if str(path) == "-":
        return sys.stdin.buffer, sys.stdin.buffer, 0
    try:
        raw = files.enter_context(path.open("rb"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    if not path.name.endswith(".gz"):
        return raw, raw, path.stat().st_size
    return raw, files.enter_context(gzip.GzipFile(fileobj=raw)), path.stat().st_size


def _feed(
    simulation: Simulation, parts: Iterable[tuple[float, list[Request]]], *, quiet: bool
) -> None:
    is_shown = sys.stderr.isatty() and not quiet
    with Progress(console=Console(stderr=True), transient=True, disable=not is_shown) as bar:
        task = bar.add_task("simulating", total=1.0)
        for done, part in parts:
            simulation.feed(part)
            bar.update(task, completed=done)


def _print(simulation: Simulation, outcomes: list[Outcome], reader: LogReader) -> None:
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
        table.add_row(decimal(quota), *cells)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


_REASONS = {
    "broken": "not a line of an access log",
    "other": "not an answer that this cache keeps",
    "memory": "answered by the memory tier; use --memory to count them",
}


def _as_json(simulation: Simulation, outcomes: list[Outcome], reader: LogReader) -> dict[str, Any]:
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
    total = decimal(size)
    return f"{simulation.requests:,} requests for about {keys:,} answers, {total} in total"
