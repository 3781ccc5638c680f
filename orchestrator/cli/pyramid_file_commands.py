"""`pyramid convert` and `pyramid verify`: pyramid TIFFs of local files, without services, and those
of the image bucket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import Tracker, track_progress
from orchestrator.cli.session import Commands, Session, command
from orchestrator.errors import OrchestratorError
from orchestrator.jobs.worker_options import conversions_at_once
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.imaging.pool import ImagingPool
    from orchestrator.imaging.pyramid_check import PyramidFacts
    from orchestrator.ingest.pyramid_files import FilePair

Row = dict[str, Any]
Work = tuple[str, Callable[[], Awaitable[Row]]]
"""A file, and the call that returns what was found."""


@command()
def convert(  # noqa: PLR0913  each is an option of the policy
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, PDF or folder.")],
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help="File of the pyramid, or a folder: existing, or out/."),
    ],
    *,
    policy: Annotated[
        str | None, typer.Option(help="default or parity [default: pyramids.policy].")
    ] = None,
    copyrighted: Annotated[
        bool, typer.Option("--copyright", help="The pictures are under copyright: keep its limits.")
    ] = False,
    tile: Annotated[int | None, typer.Option(help="Edge of a tile in pixels.")] = None,
    compression: Annotated[str | None, typer.Option(help="deflate, jpeg, webp or zstd.")] = None,
    quality: Annotated[int | None, typer.Option(help="Quality of JPEG and WebP.")] = None,
    lossless: Annotated[
        bool | None, typer.Option("--lossless", help="Lose nothing, and keep 16 bits.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Resolution to record, in pixels per millimetre.")
    ] = None,
    max_width: Annotated[int | None, typer.Option(help="Largest width in pixels.")] = None,
    max_height: Annotated[int | None, typer.Option(help="Largest height in pixels.")] = None,
    autorotate: Annotated[
        bool | None, typer.Option("--autorotate/--no-autorotate", help="Store pictures upright.")
    ] = None,
    srgb: Annotated[
        bool | None, typer.Option("--srgb/--no-srgb", help="Convert colours to sRGB.")
    ] = None,
    bigtiff: Annotated[
        bool, typer.Option("--bigtiff", help="Write BigTIFF always, not only where needed.")
    ] = False,
    subifd: Annotated[
        bool | None, typer.Option("--subifd", help="Store levels as sub-directories.")
    ] = None,
    dpi: Annotated[
        int | None, typer.Option(help="Resolution of the pages of a PDF in dots per inch.")
    ] = None,
) -> None:
    """Write pyramid TIFFs of local files: each is checked before it gets its name. No server,
    database or store is needed. Options that are not given are those of the settings. Exit status 1
    if any picture failed.
    """
    from orchestrator.ingest.pyramid_files import list_pairs

    settings = session.load(
        pyramids__policy=policy,
        pyramids__tile=tile,
        pyramids__compression=compression,
        pyramids__quality=quality,
        pyramids__lossless=lossless,
        pyramids__resolution=resolution,
        pyramids__max_width=max_width,
        pyramids__max_height=max_height,
        pyramids__autorotate=autorotate,
        pyramids__srgb=srgb,
        pyramids__bigtiff="always" if bigtiff else None,
        pyramids__subifd=subifd,
        pyramids__pdf_dpi=dpi,
    ).settings
    pairs = list_pairs(source, Path(target), is_folder=target.endswith("/"))
    started = time.monotonic()
    with track_progress("pyramids", quiet=session.as_json) as tracker:
        tracker.set_total(len(pairs))
        rows = asyncio.run(_convert_all(settings, pairs, copyrighted, tracker))
    _print_summary(session, rows, time.monotonic() - started)


@command()
def verify(
    session: Session,
    names: Annotated[
        list[str],
        typer.Argument(metavar="KEY|FILE...", help="Keys of the image bucket, or local files."),
    ],
) -> None:
    """Decode every tile of pyramid TIFFs, and compare their levels. A name that is no local file is
    a key of pyramids.image_bucket. Exit status 1 if one is not a whole pyramid.
    """
    settings = session.load().settings
    bucket = settings.pyramids.image_bucket
    keys = {name for name in names if bucket and not Path(name).exists()}
    started = time.monotonic()
    with track_progress("pyramids", quiet=session.as_json) as tracker:
        tracker.set_total(len(names))
        rows = asyncio.run(_verify_all(settings, names, keys, tracker))
    _print_summary(session, rows, time.monotonic() - started)


async def _convert_all(
    settings: Settings, pairs: list[FilePair], is_copyrighted: bool, tracker: Tracker
) -> list[Row]:
    from orchestrator.imaging.workers.file_access import folder_of
    from orchestrator.ingest.pyramid_files import convert_file
    from orchestrator.ingest.pyramid_policies import policy_of

    policy = policy_of(settings.pyramids)
    originals = {folder_of(pair.original) for pair in pairs}
    targets = {folder_of(pair.target) for pair in pairs}

    async with _imaging(settings, originals, targets) as imaging:

        async def convert_one(pair: FilePair) -> Row:
            made = await convert_file(imaging, pair, policy, is_copyrighted=is_copyrighted)
            return {"pyramids": [_describe(str(each.path), each.facts) for each in made]}

        works = [(str(pair.original), partial(convert_one, pair)) for pair in pairs]
        return await _run_all(works, conversions_at_once(settings) + 1, tracker)


async def _verify_all(
    settings: Settings, names: list[str], keys: set[str], tracker: Tracker
) -> list[Row]:
    """Check each name: an object of the image bucket if it is in `keys`, else a file."""
    from orchestrator.imaging.workers.file_access import folder_of
    from orchestrator.ingest.events.pyramid_services import open_bucket
    from orchestrator.ingest.pyramid_files import fetch_pyramid

    address = f"s3://{settings.pyramids.image_bucket}/"
    async with AsyncExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="pyramid-")))
        folders = {folder_of(Path(name)) for name in names if name not in keys}
        imaging = await stack.enter_async_context(_imaging(settings, folders, {work}))
        images = None
        if keys:
            images = await stack.enter_async_context(open_bucket(settings, "image"))

        async def verify_one(name: str) -> Row:
            if images is None or name not in keys:
                return {"pyramids": [_describe(name, await imaging.pyramids.check(Path(name)))]}
            with TemporaryDirectory(dir=work) as folder:
                path = Path(folder) / "pyramid.tif"
                await fetch_pyramid(images, name.removeprefix(address), path)
                return {"pyramids": [_describe(name, await imaging.pyramids.check(path))]}

        works = [(name, partial(verify_one, name)) for name in names]
        return await _run_all(works, conversions_at_once(settings) + 1, tracker)


@asynccontextmanager
async def _imaging(
    settings: Settings, readable: set[Path], writable: set[Path]
) -> AsyncIterator[ImagingPool]:
    """A pool whose workers read and write only in these folders, and there is a temporary one."""
    from orchestrator.imaging.pool import ImagingPool
    from orchestrator.imaging.workers.sandbox import FileAccess

    processes = settings.imaging.processes or conversions_at_once(settings)
    with TemporaryDirectory(prefix="pyramid-") as temporary:
        folders = (*writable, Path(temporary))
        files = FileAccess(tuple(readable), folders, Path(temporary))
        own = settings.imaging.model_copy(update={"processes": processes})
        pool = ImagingPool(own, files=files)
        try:
            yield pool
        finally:
            await pool.close()


async def _run_all(works: Sequence[Work], at_once: int, tracker: Tracker) -> list[Row]:
    """Run every piece of work, some at once; their rows in the order of `works`."""
    rows: list[Row] = [{} for _ in works]
    waiting = iter(enumerate(works))

    async def take_works() -> None:
        for number, (name, work) in waiting:
            rows[number] = row = {"file": name, **await _outcome(work)}
            is_failed = row["outcome"] == "failed"
            text = row["error"] if is_failed else _in_words(row["pyramids"])
            tracker.advance(f"{name} {text}", failed=is_failed)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(at_once, len(works))):
            tasks.create_task(take_works())
    return rows


async def _outcome(work: Callable[[], Awaitable[Row]]) -> Row:
    try:
        return {"outcome": "done", **await work()}
    except OrchestratorError as error:
        return {"outcome": "failed", "error": error.public, "code": error.code}
    except OSError as error:
        return {"outcome": "failed", "error": error.strerror or "unreadable", "code": "file"}


def _describe(name: str, facts: PyramidFacts) -> Row:
    return {
        "path": name,
        "width": facts.probe.width,
        "height": facts.probe.height,
        "levels": [list(level) for level in facts.levels],
        "tile": list(facts.tile),
        "compression": facts.compression,
        "resolution": facts.resolution,
        "bigtiff": facts.is_big,
        "subifds": facts.has_subifds,
        "bytes": facts.bytes,
    }


def _in_words(pyramids: list[Row]) -> str:
    first = pyramids[0]
    pages = f"{len(pyramids)} pages, the first " if len(pyramids) > 1 else ""
    return (
        f"{pages}{first['width']} x {first['height']}, {len(first['levels'])} levels, "
        f"{first['compression']}, {sum(each['bytes'] for each in pyramids)} bytes"
    )


def _print_summary(session: Session, rows: list[Row], seconds: float) -> None:
    failed = sum(row["outcome"] == "failed" for row in rows)
    done = len(rows) - failed
    session.print_result(
        {
            "attempted": len(rows),
            "done": done,
            "failed": failed,
            "seconds": round(seconds, 2),
            "files": rows,
        },
        f"attempted: {len(rows)}, done: {done}, failed: {failed}, in {seconds:.1f} s",
    )
    if failed:
        raise typer.Exit(1)


COMMANDS: Commands = {"convert": convert, "verify": verify}
