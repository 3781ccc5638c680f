"""`uploads`: work on uploaded pictures, and their migration from the replaced system."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import print_line, print_warning, track_progress
from orchestrator.cli.session import Commands, Session, command
from orchestrator.cli.token_command import parse_duration_s
from orchestrator.errors import InvalidInput, SettingsError
from orchestrator.log import set_up_logging

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.uploads.bulk_work import Counts, OnDone, Work
    from orchestrator.uploads.replaced_originals import Originals
    from orchestrator.uploads.uploads_factory import UploadServices

Force = Annotated[
    bool, typer.Option("--force", "-f", help="Also work on pictures that are up to date.")
]
AtOnce = Annotated[
    int, typer.Option("--jobs", "-j", min=1, max=64, help="Pictures at the same time.")
]
Key = Annotated[str, typer.Option("--key", "-k", help="Only the picture with this file name.")]
Limit = Annotated[int, typer.Option("--limit", "-l", min=0, help="At most so many; 0: all.")]
Every = Annotated[
    int,
    typer.Option("--progress", "-p", min=0, help="Print a line after so many pictures; 0: a bar."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")]


@command()
def resize(
    session: Session,
    *,
    force: Force = False,
    jobs: AtOnce = 5,
    key: Key = "",
    limit: Limit = 0,
    progress: Every = 0,
    verbose: Verbose = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Leave the work to the workers, as jobs.")
    ] = False,
) -> None:
    """Make the resized versions of published pictures again. Exit status 1 if a picture failed."""

    async def work(services: Services) -> Counts | int:
        uploads = _uploads(services)
        keys = [key] if key else await uploads.resizer.originals(limit)
        if queue:
            return await uploads.resizer.submit(keys, force=force)

        async def one(each: str) -> bool:
            return await uploads.resizer.resize(each, force=force)

        return await bulk.run(keys, one, len(keys))

    bulk = _Bulk(session, "resize", jobs, progress, verbose)
    result = session.run(bulk.prepared(work))
    if isinstance(result, int):
        session.print_result({"jobs": result}, f"{result} jobs recorded")
    else:
        bulk.print_summary(result)


@command()
def migrate(  # noqa: PLR0913  the options of the replaced command, and two more
    session: Session,
    *,
    originals: Annotated[
        str,
        typer.Option(
            "--originals",
            metavar="PLACE",
            help="Where the originals are: http(s)://..., a folder, or s3://bucket/prefix.",
        ),
    ],
    force: Force = False,
    jobs: AtOnce = 5,
    key: Key = "",
    limit: Limit = 0,
    progress: Every = 0,
    verbose: Verbose = False,
    listed: Annotated[
        bool,
        typer.Option("--list", help="Take every file of the place, not those of V5_DATABASE_URL."),
    ] = False,
    descending: Annotated[
        bool, typer.Option("--descending", help="In descending order of the file names.")
    ] = False,
) -> None:
    """Publish the pictures of the replaced system that are missing here. The list is read from the
    database V5_DATABASE_URL, or with --list from the place itself. Repeat the command after an
    interruption. Exit status 1 if a picture failed.
    """

    async def work(services: Services) -> Counts:
        from orchestrator.uploads.replaced_originals import open_originals

        settings, uploads = services.settings, _uploads(services)
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(open_originals(originals, settings))
            names, total = await _names_to_bring(stack, services, place, listed, descending)
            chosen = _limited(names, key, limit)

            async def one(name: str) -> bool:
                from orchestrator.uploads.picture_keys import PictureKey

                async def fetch(path: Any) -> None:
                    await place.fetch(name, path)

                parsed = PictureKey.parse_original(name)
                return await uploads.importer.bring(parsed, fetch, force=force)

            return await bulk.run(chosen, one, min(total, limit) if limit else total)

    bulk = _Bulk(session, "migrate", jobs, progress, verbose)
    bulk.print_summary(session.run(bulk.prepared(work)))


@command()
def expire(
    session: Session,
    older_than: Annotated[
        str,
        typer.Option(metavar="TIME", help="30m, 2h, 1d [default: uploads.expire_after_s]."),
    ] = "",
) -> None:
    """Delete pictures that were uploaded and not published in time."""
    older_s = parse_duration_s(older_than) if older_than else None

    async def work(services: Services) -> int:
        sweeper = _uploads(services).sweeper
        return await sweeper.expire(older_s) + await sweeper.expire_unrecorded(older_s)

    number = session.run(work)
    session.print_result({"deleted": number}, f"{number} deleted")


@command()
def check(session: Session) -> None:
    """Compare records and stored files: missing originals and versions, files of no picture. Exit
    status 1 if there are any.
    """
    from dataclasses import asdict

    from orchestrator.uploads.stock_check import Stock, check_stock

    async def work(services: Services) -> Stock:
        uploads = _uploads(services)
        return await check_stock(uploads.stores, services.catalog.uploads, uploads.maker)

    stock = session.run(work)
    lines = [f"{stock.published} published, {stock.incoming} incoming"]
    for name, keys in asdict(stock).items():
        if isinstance(keys, list):
            lines += [f"{name.replace('_', ' ')}: {key}" for key in keys]
    session.print_result(asdict(stock), "\n".join(lines))
    if not stock.is_sound:
        raise typer.Exit(1)


@command()
def token(
    session: Session,
    expires: Annotated[
        str, typer.Option("--expires", help="How long the token is valid: 30m, 12h, 7d.")
    ] = "1h",
) -> None:
    """Print a signed token that permits uploads. A client sends it as bearer token."""
    from orchestrator.uploads.upload_permits import create_token

    settings = session.load().settings.uploads
    seconds = parse_duration_s(expires)
    made = create_token([each.get_secret_value() for each in settings.token_secrets], seconds)
    session.print_result({"token": made, "expires_s": seconds}, made)


class _Bulk:
    """The output of a command that works on many pictures."""

    def __init__(
        self, session: Session, name: str, at_once: int, every: int, verbose: bool
    ) -> None:
        self._session = session
        self._name = name
        self._at_once = at_once
        self._every = every
        self._verbose = verbose
        self._started = time.monotonic()

    def prepared(
        self, work: Callable[[Services], Coroutine[Any, Any, Any]]
    ) -> Callable[[Services], Coroutine[Any, Any, Any]]:
        """`work` with the log level of the options."""

        async def run(services: Services) -> Any:
            if self._verbose:
                set_up_logging("info")
            return await work(services)

        return run

    async def run(self, keys: Sequence[str] | AsyncIterator[str], work: Work, total: int) -> Counts:
        """Work on all pictures, and show the progress."""
        from orchestrator.uploads.bulk_work import run_bulk

        iterator = _iterate(keys) if isinstance(keys, Sequence) else keys
        quiet = self._session.as_json or bool(self._every)
        with track_progress(self._name, quiet=quiet) as tracker:
            tracker.set_total(total)
            show = self._lines(total) if self._every else _tracked(tracker.advance)
            return await run_bulk(iterator, work, at_once=self._at_once, on_done=show)

    def print_summary(self, counts: Counts) -> None:
        """Print the counts, in the last line. Exits with status 1 if a picture failed."""
        seconds = round(time.monotonic() - self._started, 1)
        if not self._session.as_json:
            print_line(f"Duration: {seconds} s")
        fields = {name: getattr(counts, name) for name in counts.__slots__}
        self._session.print_result({**fields, "seconds": seconds}, str(counts))
        if counts.errors:
            raise typer.Exit(1)

    def _lines(self, total: int) -> OnDone:
        done = 0

        def show(key: str, outcome: str) -> None:
            nonlocal done
            done += 1
            if outcome not in ("processed", "skipped"):
                print_warning(f"failed: {key} {outcome}")
            if done % self._every == 0:
                print_warning(f"{done} of {total}")

        return show


def _tracked(advance: Callable[..., None]) -> OnDone:
    def show(key: str, outcome: str) -> None:
        advance(f"{key} {outcome}", failed=outcome not in ("processed", "skipped"))

    return show


def _uploads(services: Services) -> UploadServices:
    if services.uploads is None:
        raise SettingsError(
            "Uploads are not configured. Set uploads.backend and uploads.secrets, or "
            "STORAGE_BACKEND and API_SECRET_KEY."
        )
    return services.uploads


async def _names_to_bring(
    stack: AsyncExitStack, services: Services, place: Originals, listed: bool, descending: bool
) -> tuple[AsyncIterator[str], int]:
    """The names of the pictures to migrate, and their number."""
    from orchestrator.catalog.replaced_pictures import open_replaced_pictures

    if listed:
        names = sorted([name async for name in place.names()], reverse=descending)
        return _iterate(names), len(names)
    address = services.settings.uploads.v5_database
    if not address.get_secret_value():
        raise InvalidInput("Set V5_DATABASE_URL, or take the files of the place with --list.")
    database = services.settings.database.model_copy(update={"dsn": address})
    pictures = await stack.enter_async_context(open_replaced_pictures(database))
    total = await pictures.count()

    async def names_of_rows() -> AsyncIterator[str]:
        async for picture in pictures.all(descending=descending):
            base, _, extension = picture.filename.rpartition(".")
            yield f"{base}.{'svg' if picture.has_svg else extension.lower()}"

    return names_of_rows(), total


async def _limited(names: AsyncIterator[str], key: str, limit: int) -> AsyncIterator[str]:
    number = 0
    async for name in names:
        if key and name != key:
            continue
        yield name
        number += 1
        if limit and number >= limit:
            return


async def _iterate(keys: Sequence[str]) -> AsyncIterator[str]:
    for key in keys:
        yield key


COMMANDS: Commands = {
    "resize": resize,
    "migrate": migrate,
    "expire": expire,
    "check": check,
    "token": token,
}
