"""P1, P2, P3: a hot tile from memory, the same tile from the disk cache, a hot info.json. One serve
process is compared with nginx, which serves the same bytes as a static file with one worker
process.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from loadtests.benches.context import Context
from loadtests.collection import copies, medium_jpeg
from loadtests.harness import Comparison, Row, alternate
from loadtests.processor_time import cpu_seconds, cpu_seconds_of_references, with_processor
from loadtests.wrk import LoadError, wrk
from tests.support.reference_servers import nginx_static
from tests.support.serve_process import ServeProcess, fetch, run_server

TILE_BYTES = 12_000
_EDGES = (512, 448, 384, 320, 288)
"""Not 256: such a tile is passed on from the pyramid, and is in no disk cache."""


def p1(context: Context) -> list[Row]:
    """Hot tile, first without and then with an access log on both sides."""
    rows = []
    for log in ("off", "on"):
        setting = str(context.scratch / "access.log") if log == "on" else "off"
        env = {"ORCHESTRATOR_LOG__ACCESS": setting}
        with ExitStack() as stack:
            server, tile = _serve_one_image(stack, context, f"p1-{log}", env)
            _check_tier(server, tile, "memory")
            note = f"a tile of {_length(server, tile)} bytes, access log {log} on both sides"
            comparison = _compare_with_nginx(
                stack, context, server, tile, ".jpg", access_log=log == "on"
            )
        what = f"hot tile, log {log}"
        rows += [
            comparison.row(
                "P1", "requests/s", "/s", reference="nginx", at_least=1.0, what=what, note=note
            ),
            comparison.row("P1", "p99", "ms", reference="nginx", at_most=2.0, what=f"{what}, p99"),
            _processor_row(comparison, "P1", what),
        ]
    return rows


def p2(context: Context) -> list[Row]:
    """The same tile without the memory tier: every request reads the disk cache."""
    with ExitStack() as stack:
        env = {"ORCHESTRATOR_CACHE__MEMORY": "0"}
        server, tile = _serve_one_image(stack, context, "p2", env)
        _check_tier(server, tile, "disk")
        comparison = _compare_with_nginx(stack, context, server, tile, ".jpg")
    return [
        comparison.row(
            "P2", "requests/s", "/s", reference="nginx", at_least=0.5, what="disk cache"
        ),
        comparison.row("P2", "p99", "ms", reference="nginx", what="disk cache p99"),
        _processor_row(comparison, "P2", "disk cache"),
    ]


def p3(context: Context) -> list[Row]:
    """A hot info document."""
    with ExitStack() as stack:
        server, tile = _serve_one_image(stack, context, "p3", {})
        info = tile.rsplit("/", 4)[0] + "/info.json"
        fetch(server.public + info)
        comparison = _compare_with_nginx(stack, context, server, info, ".json")
    return [
        comparison.row(
            "P3", "requests/s", "/s", reference="nginx", at_least=0.8, what="info.json, hot"
        ),
        comparison.row("P3", "p99", "ms", reference="nginx", what="info.json p99"),
        _processor_row(comparison, "P3", "info.json"),
    ]


def _processor_row(comparison: Comparison, bench: str, what: str) -> Row:
    what = f"{what}, processor each"
    return comparison.row(bench, "processor", "ms", reference="nginx", what=what)


def _serve_one_image(
    stack: ExitStack, context: Context, name: str, env: Mapping[str, str]
) -> tuple[ServeProcess, str]:
    """A converted image in one serve process, and the path of a hot tile of about 12 KB."""
    folder = context.scratch / f"{name}-pictures"
    copies(medium_jpeg(), folder, 1)
    data = context.scratch / f"{name}-data"
    server = stack.enter_context(run_server(folder, workers=1, data=data, env=env))
    info = server.wait_converted()[0]["info"].removeprefix(server.public)
    base = info.removesuffix("/info.json")
    tiles = [f"{base}/1024,512,{e},{e}/{e},{e}/0/default.jpg" for e in _EDGES]
    tile = min(tiles, key=lambda path: abs(_length(server, path) - TILE_BYTES))
    fetch(server.public + tile)
    return server, tile


def _length(server: ServeProcess, path: str) -> int:
    return len(fetch(server.public + path).body)


def _check_tier(server: ServeProcess, path: str, tier: str) -> None:
    actual = fetch(server.public + path).headers.get("x-served-from", "")
    if actual != tier:
        raise LoadError(f"the answer must come from {tier}, but comes from {actual or 'no tier'}")


def _compare_with_nginx(
    stack: ExitStack,
    context: Context,
    server: ServeProcess,
    path: str,
    suffix: str,
    *,
    access_log: bool = False,
) -> Comparison:
    folder = context.scratch / "static"
    folder.mkdir(exist_ok=True)
    file = Path(f"{folder}/same{suffix}")
    file.write_bytes(fetch(server.public + path).body)
    reference = stack.enter_context(nginx_static(folder, access_log=access_log))
    urls = server.public + path, f"{reference}/{file.name}"
    for url in urls:
        wrk(url, seconds=1)  # warm-up, not measured
    return alternate(
        context.rounds,
        lambda _: with_processor(
            lambda: wrk(urls[0], seconds=context.seconds).figures(),
            lambda: cpu_seconds(server.process.pid),
        ),
        lambda _: with_processor(
            lambda: wrk(urls[1], seconds=context.seconds).figures(), cpu_seconds_of_references
        ),
    )
