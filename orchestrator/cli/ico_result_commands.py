"""`ico sign`, `warm` and `purge`: URLs and results of pictures that are shaped by their URL."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from orchestrator.cli.output import print_line
from orchestrator.cli.session import Commands, Session, command
from orchestrator.errors import InvalidInput, SettingsError

if TYPE_CHECKING:
    from orchestrator.app import Services
    from orchestrator.catalog.jobs import RecordedJobs
    from orchestrator.transform.transformer import Transformer

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
PathArgument = Annotated[
    str, typer.Argument(help="Key of the original in the configured bucket or folder.")
]


@command(json=False)
def sign_url(
    session: Session,
    params: Annotated[str, typer.Argument(help="Parameters, as in a URL: width=500,fit=crop.")],
    path: PathArgument,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long the URL is valid, as 90s, 10m, 8h or 30d.")
    ] = "",
) -> None:
    """Print the path and query of a signed URL, signed with the first of ico.secrets."""
    from orchestrator.transform.access import AccessRules
    from orchestrator.transform.signatures import EXPIRY, SIGNATURE, SignedText, sign
    from orchestrator.transform.transformer import parse_path

    settings = session.load().settings.ico
    AccessRules(settings).parse(params)
    parse_path(path)
    if not settings.secrets:
        raise SettingsError("ico.secrets is empty. Set a secret of at least 16 characters.")
    exp = str(int(time.time()) + _seconds(expires)) if expires else ""
    sig = sign(settings.secrets[0].get_secret_value(), SignedText(params, path, exp))
    query = f"{EXPIRY}={exp}&{SIGNATURE}={sig}" if exp else f"{SIGNATURE}={sig}"
    print_line(f"/ico/{quote(params, safe='=,:')}/{quote(path, safe='/:')}?{query}")


@command()
def warm_up(
    session: Session,
    paths: Annotated[list[str], typer.Argument(help="Keys of originals.")],
    params: Annotated[
        list[str],
        typer.Option("--params", metavar="PARAMS", help="Parameters or a preset; repeatable."),
    ],
) -> None:
    """Make and store results ahead of requests. The running server does the work."""

    async def submit(services: Services) -> RecordedJobs:
        from orchestrator.transform.warm_up import warm_up_jobs

        drafts = warm_up_jobs(_transformer(services), paths, params)
        return await services.submitter.submit(drafts)

    jobs = list(session.run(submit).ids)
    results = f"{len(jobs)} result{'' if len(jobs) == 1 else 's'}"
    session.print_result({"jobs": jobs}, f"{results} to make")


@command()
def purge_results(
    session: Session,
    path: PathArgument,
    region: Annotated[str, typer.Option(help="Region of a bucket of ico.buckets.")] = "",
    bucket: Annotated[str, typer.Option(help="Name of a bucket of ico.buckets.")] = "",
    scan: Annotated[
        bool,
        typer.Option("--scan", help="Also delete results that another program stored there."),
    ] = False,
) -> None:
    """Remove the results of one picture: those stored beside it, and those in caches."""
    purged = session.run(
        lambda services: _transformer(services).purge(path, region, bucket, scan=scan)
    )
    session.print_result({"deleted": purged.results}, f"{purged.results} stored results deleted")


def _transformer(services: Services) -> Transformer:
    if services.transformer is None:
        raise SettingsError(
            "/ico is not configured. Set ico.presets, ico.secrets, ico.allowed or ico.open."
        )
    return services.transformer


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if match is None:
        raise InvalidInput("--expires needs a number and a unit: 90s, 10m, 8h or 30d.")
    return int(match[1]) * _UNITS_S[match[2]]


COMMANDS: Commands = {"sign": sign_url, "warm": warm_up, "purge": purge_results}
