"""`python -m loadtests.bench [P1 P2 ...]`: our figures beside the rivals', one table, and the same
as JSON under `loadtests/results/`.

A benchmark is no test: a goal that is missed is printed, and the exit status stays 0. A bench that
cannot run here is listed as skipped with the reason; one that broke ends the run with status 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from loadtests.benches.context import Bench, Context
from loadtests.benches.files import p9
from loadtests.benches.flood import p6
from loadtests.benches.hot import p1, p2, p3
from loadtests.benches.ingest import p7
from loadtests.benches.thumbnails import p8
from loadtests.benches.tiles import p5
from loadtests.benches.zoom import ScriptMissingError, p11
from loadtests.harness import Row, Skipped, table, write_results
from tests.support.reference_servers import ServerMissingError

BENCHES: dict[str, Bench] = {
    "P1": p1,
    "P2": p2,
    "P3": p3,
    "P5": p5,
    "P6": p6,
    "P7": p7,
    "P8": p8,
    "P9": p9,
    "P11": p11,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the benches named (all without names); 0 unless one of them broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="P1", help=f"of {' '.join(BENCHES)}")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="of a timed round (default 3)")
    chosen = parser.parse_args(arguments)
    names = [name.upper() for name in chosen.names] or list(BENCHES)
    if unknown := set(names) - set(BENCHES):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    outcomes: list[Row | Skipped] = []
    broken = False
    for name in names:
        found, fine = _run(name, chosen.rounds, chosen.seconds)
        outcomes += found
        broken = broken or not fine
    print("\n" + table(outcomes))
    path = write_results(outcomes, {"rounds": chosen.rounds, "seconds": chosen.seconds})
    print(f"\nwritten to {path}")
    return 1 if broken else 0


def _run(name: str, rounds: int, seconds: float) -> tuple[list[Row | Skipped], bool]:
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
        except Exception as error:  # one broken bench must not cost the figures of the others
            traceback.print_exc()
            return [Skipped(name, f"broke: {type(error).__name__}: {str(error)[:200]}")], False
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(f"  {line}" for line in table(rows).splitlines()), flush=True)
    return list(rows), True


if __name__ == "__main__":
    sys.exit(main())
