"""P10: hot tiles (P1) and distinct tiles of a pyramid (P5) while a batch is ingested at full speed,
compared with the same server when it does nothing else.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

from loadtests.benches.batch_client import BatchClient
from loadtests.benches.context import Context
from loadtests.benches.tiles import distinct_tiles, fetch_all
from loadtests.collection import copies, large_pyramid, medium_jpeg, small_jpegs
from loadtests.harness import Comparison, Measured, Row
from loadtests.wrk import LoadError, wrk
from tests.support.serve_process import ServeProcess, fetch, run_server

_BATCH = 400
"""Files of the batch of one round: more than are ingested in its time."""


def p10(context: Context) -> list[Row]:
    """The reference is the server itself without an ingest, in alternating rounds."""
    files = small_jpegs()
    folder = context.scratch / "p10"
    copies(large_pyramid(), folder, 2 * context.rounds, prefix="pyramid")
    copies(medium_jpeg(), folder, 1, prefix="hot")
    env = {
        "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
        "ORCHESTRATOR_INGEST__FILE_ROOTS": json.dumps([str(files[0].parent)]),
    }
    hot, cold = Comparison(), Comparison()
    with ExitStack() as stack:
        data = context.scratch / "p10-data"
        server = stack.enter_context(run_server(folder, workers=1, data=data, env=env))
        server.wait_converted(expected=2 * context.rounds + 1)
        client = BatchClient(server)
        tile = f"{server.public}/iiif/3/1%2F1%2Fhot-0/1024,512,512,512/512,512/0/default.jpg"
        fetch(tile)
        for number in range(context.rounds):
            context.print_progress(f"P10 round {number + 1}")
            hot.theirs.append(_hot(tile, context))
            cold.theirs.append(_cold(server, 2 * number))
            batch = [files[position % len(files)] for position in range(_BATCH)]
            path = client.post_batch(batch, f"round{number}")
            hot.ours.append(_hot(tile, context))
            cold.ours.append(_cold(server, 2 * number + 1))
            if client.read_batch(path)["finished"] is not None:
                raise LoadError("the ingest ended before the measurement")
            client.cancel_batch(path)
    note = "a batch of JPEGs of 1 to 2 MP through the queue, default settings"
    return [
        hot.row("P10", "p99", "ms", reference="alone", at_most=2.0, what="hot tile p99", note=note),
        hot.row("P10", "requests/s", "/s", reference="alone", what="hot tile"),
        cold.row(
            "P10",
            "requests/s",
            "/s",
            reference="alone",
            at_least=0.5,
            what="distinct tiles, pyramid",
        ),
    ]


def _hot(tile: str, context: Context) -> Measured:
    return wrk(tile, seconds=context.seconds).figures()


def _cold(server: ServeProcess, number: int) -> Measured:
    base = f"{server.public}/iiif/3/1%2F1%2Fpyramid-{number}"
    return asyncio.run(fetch_all([f"{base}/{tile}" for tile in distinct_tiles(number, 200)]))
