"""`ico encode`, `decode` and `render`: what a URL makes of a picture, on local files and without
services.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.session import Commands, Session, command
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.settings import Ico, Settings

if TYPE_CHECKING:
    from orchestrator.transform.parameters import Parameters
    from orchestrator.transform.picture_shaper import Result

ParametersArgument = Annotated[
    str,
    typer.Argument(metavar="PARAMS", help="The parameters: width=500,fit=crop, or their base64."),
]


@command()
def encode_parameters(session: Session, params: ParametersArgument) -> None:
    """Print parameters in base64, as they can stand in a URL."""
    from orchestrator.transform.parameters import decode, encode

    parameters = _parse(session.load().settings.ico, params)
    text = decode(params)
    segment = encode(text)
    result = {"params": segment, "text": text, "canonical": parameters.canonical}
    session.print_result(result, segment)


@command()
def decode_parameters(session: Session, params: ParametersArgument) -> None:
    """Print the parameters of a URL in plain text."""
    from orchestrator.transform.parameters import decode

    parameters = _parse(session.load().settings.ico, params)
    text = decode(params)
    result = {"text": text, "canonical": parameters.canonical, **asdict(parameters)}
    session.print_result(result, text)


@command()
def render_picture(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="IN", help="File of the original.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write.")],
    params: ParametersArgument,
) -> None:
    """Write what the parameters make of a local file. No server, database or store is needed."""
    settings = session.load().settings
    parameters = _parse(settings.ico, params)
    if not source.is_file():
        raise NotFound(f"There is no file {source}.")
    if target.exists() and target.samefile(source):
        raise InvalidInput("OUT is the file of the original. Name another file.")
    result = asyncio.run(_shape(settings, source, parameters))
    target.write_bytes(result.body)
    row: dict[str, Any] = {
        "file": str(target),
        "mediaType": result.media_type,
        "bytes": len(result.body),
        "original": result.is_original,
        "canonical": parameters.canonical,
    }
    kind = "the original" if result.is_original else "made"
    session.print_result(row, f"{target}: {result.media_type}, {len(result.body)} bytes, {kind}")


async def _shape(settings: Settings, source: Path, parameters: Parameters) -> Result:
    from orchestrator.imaging.pool import ImagingPool
    from orchestrator.imaging.workers.file_access import folder_of
    from orchestrator.imaging.workers.sandbox import FileAccess
    from orchestrator.transform.picture_shaper import PictureShaper

    own = settings.imaging.model_copy(update={"processes": 1})
    with TemporaryDirectory(prefix="ico-") as folder:
        temporary = Path(folder)
        files = FileAccess((folder_of(source),), (temporary,), temporary)
        pool = ImagingPool(own, files=files)
        try:
            _, result = await PictureShaper(pool, settings.ico).shape(source, parameters, "")
        finally:
            await pool.close()
    return result


def _parse(settings: Ico, params: str) -> Parameters:
    from orchestrator.transform.parameters import parse_parameters

    return parse_parameters(params, focus_order=settings.focus_order, strict=settings.strict)


COMMANDS: Commands = {
    "encode": encode_parameters,
    "decode": decode_parameters,
    "render": render_picture,
}
