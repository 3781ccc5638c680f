"""P11: the zoom session of a viewer, with both forms of tile sizes, compared with iipsrv on the
same file: JPEG2000 cold and warm, and pyramid TIFF. The script of the session is not in the
repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtests.benches.context import Context
from loadtests.collection import copies, large_jpeg2000, large_pyramid
from loadtests.harness import Comparison, Measured, Row
from loadtests.wrk import LoadError
from tests.support.acceptance_scripts import acceptance_folder
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import run_server

FORMS = ("wh", "w")
"""Forms of the size in tile requests: `w,h` of current OpenSeadragon versions, `w,` of older ones.
"""
_FIGURES = {"first_picture_s": "first picture", "whole_s": "session"}
Sides = dict[str, Measured]
"""The figures of "ours" and of "iipsrv"."""


class ScriptMissingError(RuntimeError):
    """`zoom_session.py` is not on this machine."""


@dataclass(frozen=True)
class Servers:
    """Both servers, started and warm: each has answered one session that is not measured."""

    context: Context
    ours: str
    theirs: str

    def session(self, file: Path, form: str) -> Sides:
        """One session with one file on each server, ours first. Raises LoadError."""
        words = [sys.executable, "-B", f"{acceptance_folder()}/zoom_session.py"]
        words += [f"ours={self.ours}{file.stem}", f"iipsrv={self.theirs}{file.name}"]
        words += ["--json", "--form", form, "--rounds", "1"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadError(done.stderr[-2000:])
        figures = json.loads(done.stdout)
        if figures["ours"]["not_200"]:
            raise LoadError(f"{figures['ours']['not_200']} of our tiles were not 200")
        return {
            side: {figure: max(figures[side][figure][0], 1e-4) for figure in _FIGURES}
            for side in ("ours", "iipsrv")
        }


def p11(context: Context) -> list[Row]:
    """Cold: a new copy of the file for each round and form; the forms alternate. Warm: one of these
    copies again. Every session zooms to the same place.
    """
    if acceptance_folder() is None:
        raise ScriptMissingError("zoom_session.py is not on this machine (set ACCEPTANCE_DIR)")
    folder = context.scratch / "p11"
    jp2 = {form: copies(large_jpeg2000(), folder, context.rounds, prefix=form) for form in FORMS}
    tif = copies(large_pyramid(), folder, context.rounds, prefix="pyramid")
    spare = copies(large_jpeg2000(), folder, 1, prefix="spare")[0]
    env = {
        "ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original",
        "ORCHESTRATOR_PROMOTION__ENABLED": "false",
    }
    with ExitStack() as stack:
        data = context.scratch / "p11-data"
        server = stack.enter_context(run_server(folder, workers=2, data=data, env=env))
        server.wait_converted(expected=3 * context.rounds + 1)
        reference = stack.enter_context(iipsrv(folder))
        servers = Servers(context, f"{server.public}/iiif/3/1%2F1%2F", f"{reference}/")
        servers.session(spare, "wh")  # starts the decoders, not measured
        return [*_jpeg2000(servers, jp2), *_pyramid(servers, tif)]


def _jpeg2000(servers: Servers, files: Mapping[str, list[Path]]) -> list[Row]:
    cold: dict[str, list[Sides]] = {form: [] for form in FORMS}
    for number in range(servers.context.rounds):
        servers.context.print_progress(f"P11 cold, round {number + 1}")
        for form in FORMS:
            cold[form].append(servers.session(files[form][number], form))
    rows = []
    for form in FORMS:
        rows += _rows(f"cold, {form}", cold[form], first=0.5, whole=0.4)
    forms = Comparison(*([each["ours"] for each in cold[form]] for form in FORMS))
    what = "session, cold, w,h compared with w,"
    rows.append(forms.row("P11", "whole_s", "s", reference="ours w,", at_most=1.1, what=what))
    for form in FORMS:
        servers.context.print_progress(f"P11 warm, {form}")
        warm = [servers.session(files[form][0], form) for _ in range(servers.context.rounds)]
        rows += _rows(f"warm, {form}", warm, first=0.05, whole=0.05)
    return rows


def _pyramid(servers: Servers, files: list[Path]) -> list[Row]:
    servers.context.print_progress("P11 pyramid")
    return _rows(
        "pyramid, wh", [servers.session(file, "wh") for file in files], first=0.8, whole=0.8
    )


def _rows(what: str, rounds: list[Sides], *, first: float, whole: float) -> list[Row]:
    comparison = Comparison([each["ours"] for each in rounds], [each["iipsrv"] for each in rounds])
    goals = {"first_picture_s": first, "whole_s": whole}
    return [
        comparison.row(
            "P11", figure, "s", reference="iipsrv", at_most=goals[figure], what=f"{name}, {what}"
        )
        for figure, name in _FIGURES.items()
    ]
