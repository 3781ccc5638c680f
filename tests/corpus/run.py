"""Serves every file of a folder with the installed product, and compares with other programs.

    python -m tests.corpus.run FOLDER [--policy use-original] [--json FILE] [--only PART]

Starts `orchestrator serve` on a copy of the folder (hard links where possible) with a data
directory of its own, waits for the conversions, then requests of each file both info documents, the
whole picture, a thumbnail and two tiles. Exit status 1 if a picture is wrong, an answer is a 5xx, a
decode worker ended or the time was not enough; 2 if the folder has no file.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

POLICIES = ("fastest", "use-original", "fast-lossy", "fast-higher", "max-quality")


def main() -> int:
    """Run; returns the exit status."""
    # Imported here: the process of the reference decoders imports this module, and must not load
    # libvips, whose libheif disturbs that of pillow-heif.
    from rich.console import Console

    from tests.corpus.outcomes import print_run
    from tests.corpus.serving import list_files, run_corpus

    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped
    console = Console(stderr=bool(given.json == "-"), width=None if sys.stdout.isatty() else 150)
    files = list_files(given.folder, given.only)
    if not files:
        console.print(f"There is no file in {given.folder}.")
        return 2
    try:
        run = run_corpus(given.folder, files, given.policy, given.time_limit, console=console)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    print_run(run, console)
    if given.json:
        text = json.dumps(run.as_json(), indent=1)
        if given.json == "-":
            print(text)
        else:
            Path(given.json).write_text(text)
    return 0 if run.is_good else 1


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--policy", choices=POLICIES, default="fastest")
    arguments.add_argument(
        "--json", metavar="FILE", help="also write every outcome; - is standard output"
    )
    arguments.add_argument(
        "--only", default="", metavar="PART", help="files whose path contains PART"
    )
    arguments.add_argument("--time-limit", type=float, default=4 * 3600.0, metavar="SECONDS")
    return arguments.parse_args()


if __name__ == "__main__":
    sys.exit(main())
