"""P15: a bulk consumer, such as the harvest of a machine-learning project: the whole image, half of
its size and random details of each file, by 1, 8 and 32 clients. The built-in image server is
compared with iipsrv (two processes behind nginx) on the same files.

iipsrv reads no JPEG and does not rotate by small angles. A last row has our own rate for the whole
workload, with both, beside our rate for the part that iipsrv can do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests.benches.context import Context
from loadtests.benches.tiles import Sides
from loadtests.collection import copies, harvest_jpeg, harvest_jpeg2000, harvest_pyramid
from loadtests.harness import Comparison, Measured, Row
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import run_server

CLIENTS = (1, 8, 32)
DETAILS = 4
_COPIES = 2
"""Files of each kind in one round."""
_KINDS = ("jpeg2000", "pyramid", "jpeg")


def p15(context: Context) -> list[Row]:
    """Images per second of both sides for each number of clients; each file is requested once."""
    number = context.rounds * len(CLIENTS) * _COPIES
    folder = context.scratch / "p15"
    made = {
        "jpeg2000": copies(harvest_jpeg2000(), folder, number, prefix="jpeg2000"),
        "pyramid": copies(harvest_pyramid(), folder, number, prefix="pyramid"),
        "jpeg": copies(harvest_jpeg(), folder, number, prefix="jpeg"),
    }
    env = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    rows: list[Row] = []
    with ExitStack() as stack:
        data = context.scratch / "p15-data"
        server = stack.enter_context(run_server(folder, workers=1, data=data, env=env))
        server.wait_converted(expected=number * len(made))
        sides = Sides(
            server, f"{server.public}/iiif/3/1%2F1%2F", stack.enter_context(iipsrv(folder))
        )
        whole: list[Measured] = []
        part: list[Measured] = []
        for position, clients in enumerate(CLIENTS):
            context.print_progress(f"P15 {clients} clients")
            comparison = Comparison()
            for turn in range(context.rounds):
                first = (position * context.rounds + turn) * _COPIES
                files = {kind: made[kind][first : first + _COPIES] for kind in _KINDS}
                comparable = [*files["jpeg2000"], *files["pyramid"]]
                comparison.ours.append(sides.run_ours(_requests(comparable, "stem", turn), clients))
                comparison.theirs.append(
                    sides.run_theirs(_requests(comparable, "name", turn), clients)
                )
                rest = _requests(files["jpeg"], "stem", turn, is_rotated=True)
                whole.append(sides.run_ours(rest, clients))
            part += comparison.ours
            what = f"bulk consumer, {clients} clients"
            rows.append(
                comparison.row(
                    "P15",
                    "requests/s",
                    "/s",
                    reference="iipsrv",
                    at_least=1.5,
                    what=what,
                    note="12 MP JPEG2000 and pyramid TIFF, requested for the first time",
                )
            )
            rows.append(
                comparison.row(
                    "P15", "processor", "ms", reference="iipsrv", what=f"{what}, processor each"
                )
            )
    what = "JPEG originals and rotation by 5 degrees"
    own = Comparison(whole, part)
    return [*rows, own.row("P15", "requests/s", "/s", reference="ours without them", what=what)]


def _requests(
    files: Sequence[Path], name: str, seed: int, *, is_rotated: bool = False
) -> list[str]:
    """Image requests for each file, identified by its stem or name, in an order of its own."""
    numbers = random.Random(seed)
    requests = []
    for file in files:
        sizes = ["full/4000,", "full/2000,"]
        for _ in range(DETAILS):
            edge = numbers.choice((400, 700, 1000))
            x, y = numbers.randrange(4000 - edge), numbers.randrange(3000 - edge)
            sizes.append(f"{x},{y},{edge},{edge}/{min(edge, 512)},")
        requests += [f"{getattr(file, name)}/{size}/0/default.jpg" for size in sizes]
        if is_rotated:
            requests.append(f"{file.stem}/full/1000,/5/default.jpg")
    numbers.shuffle(requests)
    return requests
