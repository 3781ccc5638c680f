"""P12: resident memory of an idle installation, of a serve process under the load of P1, and of a
decode worker on a JPEG2000 of 200 megapixels. The reference is the resident memory of Cantaloupe's
JVM, 660 MB, as it was measured once on a machine of this kind.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from loadtests.benches.context import Context
from loadtests.collection import huge_jpeg2000, medium_jpeg
from loadtests.harness import Row, Spread, judge
from loadtests.wrk import wrk
from tests.support.serve_process import ServeProcess, fetch, run_server

CANTALOUPE_MB = 660.0
GOAL = 0.25
_TILES = [f"{x},{y},512,512/512,512/0/default.jpg" for x in (0, 6000, 12_000) for y in (0, 8000)]


def p12(context: Context) -> list[Row]:
    """One row for each of the three."""
    folder = context.scratch / "p12"
    folder.mkdir()
    shutil.copyfile(medium_jpeg(), folder / "medium.jpg")
    shutil.copyfile(huge_jpeg2000(), folder / "huge.jp2")
    env = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    with run_server(workers=1, data=context.scratch / "p12-empty") as empty:
        idle = sum(_proportional_mb(pid) for pid in empty.processes())
    with run_server(folder, workers=1, data=context.scratch / "p12-data", env=env) as server:
        server.wait_converted(expected=2)
        base = f"{server.public}/iiif/3/1%2F1%2F"
        tile = f"{base}medium/0,0,512,512/512,512/0/default.jpg"
        fetch(tile)
        wrk(tile, seconds=context.seconds)
        serving = _serve_process(server)
        resident = serving.memory_info().rss / 1e6
        for path in _TILES:
            fetch(f"{base}huge/{path}", timeout_s=300)
        decoding = max(_peak_mb(each.pid) for each in serving.children())
    return [
        _row("idle installation with its database", idle, "proportional set of all processes"),
        _row("serve process after wrk on a hot tile", resident, "resident"),
        _row("decode worker, tiles of a 200 MP JPEG2000", decoding, "highest resident"),
    ]


def _row(what: str, megabytes: float, note: str) -> Row:
    ratio = megabytes / CANTALOUPE_MB
    ours, theirs = (Spread.of([value]) for value in (megabytes, CANTALOUPE_MB))
    goal, is_met = judge(ratio, None, GOAL)
    return Row(
        "P12", what, "MB", ours, theirs, "Cantaloupe", Spread.of([ratio]), goal, is_met, note
    )


def _serve_process(server: ServeProcess) -> psutil.Process:
    """The process that answers on the public port. Its children are the decode workers."""
    port = int(server.public.rpartition(":")[2])
    listening = []
    for pid in server.processes():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            ports = {each.laddr.port for each in process.net_connections() if each.laddr}
            if port in ports:
                listening.append(process)
    return max(listening, key=lambda each: int(each.memory_info().rss))


def _proportional_mb(pid: int) -> float:
    with suppress(psutil.Error):
        return float(psutil.Process(pid).memory_full_info().pss) / 1e6
    return 0.0


def _peak_mb(pid: int) -> float:
    """The highest resident memory that the kernel recorded for a process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0
