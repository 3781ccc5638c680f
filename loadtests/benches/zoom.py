"""P11: a viewer's zoom session, both forms of tile addresses, beside iipsrv on the same file: from
JPEG2000 cold and warm, and from a pyramid TIFF. The session's script lives outside the repository.
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
from loadtests.harness import Duel, Measured, Row
from loadtests.wrk import LoadError
from tests.support.acceptance_scripts import acceptance_folder
from tests.support.reference_servers import iipsrv
from tests.support.serve_process import run_server

FORMS = ("wh", "w")
"""How tiles are asked for: `w,h` as OpenSeadragon does now, `w,` as it did."""
_FIGURES = {"first_picture_s": "first picture", "whole_s": "session"}
Sides = dict[str, Measured]
"""Figures of "ours" and of "iipsrv"."""


class ScriptMissingError(RuntimeError):
    """`zoom_session.py` is not here."""


@dataclass(frozen=True)
class Stage:
    """Both servers, up and having shown one picture that is not measured."""

    context: Context
    ours: str
    theirs: str

    def session(self, file: Path, form: str) -> Sides:
        """One visit of one file at each server, ours first. Raises LoadError."""
        words = [sys.executable, "-B", f"{acceptance_folder()}/zoom_session.py"]
        words += [f"ours={self.ours}{file.stem}", f"iipsrv={self.theirs}{file.name}"]
        words += ["--json", "--form", form, "--rounds", "1"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadError(done.stderr[-2000:])
        seen = json.loads(done.stdout)
        if seen["ours"]["not_200"]:
            raise LoadError(f"{seen['ours']['not_200']} of our tiles were not 200")
        return {
            side: {figure: max(seen[side][figure][0], 1e-4) for figure in _FIGURES}
            for side in ("ours", "iipsrv")
        }


def p11(context: Context) -> list[Row]:
    """Cold: a copy of the file for each round and form, the forms alternating too. Warm: one of
    them again. Every visit looks at the same place.
    """
    if acceptance_folder() is None:
        raise ScriptMissingError("zoom_session.py is not here (set ACCEPTANCE_DIR)")
    folder = context.scratch / "p11"
    jp2 = {form: copies(large_jpeg2000(), folder, context.rounds, prefix=form) for form in FORMS}
    tif = copies(large_pyramid(), folder, context.rounds, prefix="pyramid")
    spare = copies(large_jpeg2000(), folder, 1, prefix="spare")[0]
    env = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    with ExitStack() as stack:
        data = context.scratch / "p11-data"
        server = stack.enter_context(run_server(folder, workers=2, data=data, env=env))
        server.wait_converted(expected=3 * context.rounds + 1)
        rival = stack.enter_context(iipsrv(folder))
        stage = Stage(context, f"{server.public}/iiif/3/1%2F1%2F", f"{rival}/")
        stage.session(spare, "wh")  # decoders are started, nothing is measured
        return [*_jpeg2000(stage, jp2), *_pyramid(stage, tif)]


def _jpeg2000(stage: Stage, files: Mapping[str, list[Path]]) -> list[Row]:
    cold: dict[str, list[Sides]] = {form: [] for form in FORMS}
    for number in range(stage.context.rounds):
        stage.context.say(f"P11 cold, round {number + 1}")
        for form in FORMS:
            cold[form].append(stage.session(files[form][number], form))
    rows = []
    for form in FORMS:
        rows += _rows(f"cold, {form}", cold[form], first=0.5, whole=0.4)
    forms = Duel(*([each["ours"] for each in cold[form]] for form in FORMS))
    what = "session, cold, w,h beside w,"
    rows.append(forms.row("P11", "whole_s", "s", rival="ours w,", at_most=1.1, what=what))
    for form in FORMS:
        stage.context.say(f"P11 warm, {form}")
        warm = [stage.session(files[form][0], form) for _ in range(stage.context.rounds)]
        rows += _rows(f"warm, {form}", warm, first=0.05, whole=0.05)
    return rows


def _pyramid(stage: Stage, files: list[Path]) -> list[Row]:
    stage.context.say("P11 pyramid")
    return _rows("pyramid, wh", [stage.session(file, "wh") for file in files], first=0.8, whole=0.8)


def _rows(what: str, rounds: list[Sides], *, first: float, whole: float) -> list[Row]:
    duel = Duel([each["ours"] for each in rounds], [each["iipsrv"] for each in rounds])
    goals = {"first_picture_s": first, "whole_s": whole}
    return [
        duel.row("P11", figure, "s", rival="iipsrv", at_most=goals[figure], what=f"{name}, {what}")
        for figure, name in _FIGURES.items()
    ]
