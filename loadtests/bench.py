"""`python -m loadtests.bench [P1 P2 ...]` measures the installed command and reference programs,
and prints one table; the same results go to `loadtests/results/` as JSON.

A benchmark is not a test: a missed goal is printed and the exit status stays 0. A bench that cannot
run on this machine is listed as skipped with the reason. If a bench fails, the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from loadtests.benches.beside_ingest import p10
from loadtests.benches.bulk import p15
from loadtests.benches.cold import p4
from loadtests.benches.context import Bench, Context
from loadtests.benches.curves import p17
from loadtests.benches.files import p9
from loadtests.benches.flood import p6
from loadtests.benches.hot import p1, p2, p3
from loadtests.benches.ingest import p7
from loadtests.benches.job_queue import p13
from loadtests.benches.memory import p12
from loadtests.benches.pyramids import p16
from loadtests.benches.thumbnails import p8
from loadtests.benches.tiles import p5
from loadtests.benches.transforms import p14
from loadtests.benches.uploads import p14_uploads
from loadtests.benches.zoom import ScriptMissingError, p11
from loadtests.harness import Point, Row, Skipped, table, write_results
from tests.support.reference_servers import ServerMissingError

BENCHES: dict[str, Bench] = {
    "P1": p1,
    "P2": p2,
    "P3": p3,
    "P4": p4,
    "P5": p5,
    "P6": p6,
    "P7": p7,
    "P8": p8,
    "P9": p9,
    "P10": p10,
    "P11": p11,
    "P12": p12,
    "P13": p13,
    "P14": p14,
    "P15": p15,
    "P16": p16,
    "P17": p17,
    "P14U": p14_uploads,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the named benches, or all; returns 0 unless one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="P1", help=f"one of {' '.join(BENCHES)}")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=3, help="length of a timed round (default 3)"
    )
    chosen = parser.parse_args(arguments)
    names = [name.upper() for name in chosen.names] or list(BENCHES)
    if unknown := set(names) - set(BENCHES):
        parser.error(
            f"unknown bench: {', '.join(sorted(unknown))}; choose from {', '.join(BENCHES)}"
        )
    outcomes: list[Row | Point | Skipped] = []
    has_failed = False
    for name in names:
        rows, is_fine = _run(name, chosen.rounds, chosen.seconds)
        outcomes += rows
        has_failed = has_failed or not is_fine
    print("\n" + table(outcomes))
    path = write_results(outcomes, {"rounds": chosen.rounds, "seconds": chosen.seconds})
    print(f"\nresults written to {path}")
    return 1 if has_failed else 0


def _run(name: str, rounds: int, seconds: float) -> tuple[list[Row | Point | Skipped], bool]:
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"bench-{name.lower()}-") as scratch:
        context = Context(
            rounds, seconds, Path(scratch), lambda text: print(f"  {text}", flush=True)
        )
        try:
            rows = BENCHES[name](context)
        except (ServerMissingError, ScriptMissingError) as error:
            return [Skipped(name, str(error))], True
        except Exception as error:  # a failed bench must not lose the figures of the others
            traceback.print_exc()
            return [Skipped(name, f"failed: {type(error).__name__}: {str(error)[:200]}")], False
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(f"  {line}" for line in table(rows).splitlines()), flush=True)
    return list(rows), True


if __name__ == "__main__":
    sys.exit(main())
