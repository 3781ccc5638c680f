"""P11: a viewer's zoom session, both forms of tile addresses, beside iipsrv on the same file: from
JPEG2000 cold and warm, and from a pyramid TIFF. The session's script lives outside the repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.benches.context import Context
from loadtests.collection import copies, large_jpeg2000, large_pyramid
from loadtests.harness import Row, Spread, judge
from loadtests.wrk import LoadError
from tests.support.acceptance import acceptance_folder
from tests.support.rivals import iipsrv
from tests.support.running import Running, running

FORMS = ("wh", "w")
_FIGURES = {"first_picture_s": "first picture", "whole_s": "session"}


class ScriptMissingError(RuntimeError):
    """`zoom_session.py` is not here."""


def p11(context: Context) -> list[Row]:
    """Cold sessions use a copy of the file for each round and form; warm ones one file again."""
    if acceptance_folder() is None:
        raise ScriptMissingError("zoom_session.py is not here (set ACCEPTANCE_DIR)")
    folder = context.scratch / "p11"
    jp2 = {form: copies(large_jpeg2000(), folder, context.rounds, prefix=form) for form in FORMS}
    tif = copies(large_pyramid(), folder, context.rounds, prefix="pyramid")
    env = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": "use-original"}
    rows: list[Row] = []
    with ExitStack() as stack:
        data = context.scratch / "p11-data"
        server = stack.enter_context(running(folder, workers=2, data=data, env=env))
        server.wait_converted(expected=3 * context.rounds)
        rival = stack.enter_context(iipsrv(folder))
        cold = {}
        for form in FORMS:
            context.say(f"P11 JPEG2000 cold, {form}")
            cold[form] = _session(context, server, rival, jp2[form], form)
            rows += _rows(f"cold, {form}", cold[form], first=0.5, whole=0.4)
        rows.append(_forms_equal(cold))
        for form in FORMS:
            context.say(f"P11 JPEG2000 warm, {form}")
            same = [jp2[form][0]]
            _session(context, server, rival, same, form, again=True)
            warm = _session(context, server, rival, same, form, again=True)
            rows += _rows(f"warm, {form}", warm, first=0.05, whole=0.05)
        context.say("P11 pyramid")
        pyramid = _session(context, server, rival, tif, "wh")
        rows += _rows("pyramid, wh", pyramid, first=0.8, whole=0.8)
    return rows


def _session(
    context: Context,
    server: Running,
    rival: str,
    files: list[Path],
    form: str,
    *,
    again: bool = False,
) -> Mapping[str, Any]:
    """Both sides' figures as the script prints them."""
    folder = acceptance_folder()
    ours = ",".join(f"{server.public}/iiif/3/1%2F1%2F{file.stem}" for file in files)
    theirs = ",".join(f"{rival}/{file.name}" for file in files)
    words = [sys.executable, "-B", f"{folder}/zoom_session.py", f"ours={ours}", f"iipsrv={theirs}"]
    words += ["--json", "--form", form, "--rounds", str(context.rounds)]
    words += ["--same-view"] if again else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(done.stderr[-2000:])
    rows: dict[str, Any] = json.loads(done.stdout)
    if rows["ours"]["not_200"]:
        raise LoadError(f"{rows['ours']['not_200']} of our tiles were not 200")
    return rows


def _rows(what: str, seen: Mapping[str, Any], *, first: float, whole: float) -> list[Row]:
    rows = []
    for figure, bound in (("first_picture_s", first), ("whole_s", whole)):
        ours, theirs = (Spread(*seen[side][figure]) for side in ("ours", "iipsrv"))
        ratio = _ratio(ours, theirs)
        goal, met = judge(ratio.median, None, bound)
        name = f"{_FIGURES[figure]}, {what}"
        rows.append(Row("P11", name, "s", ours, theirs, "iipsrv", ratio, goal, met))
    return rows


def _forms_equal(cold: Mapping[str, Mapping[str, Any]]) -> Row:
    """The `w,h` form beside the `w,` form, both ours."""
    ours, other = (Spread(*cold[form]["ours"]["whole_s"]) for form in FORMS)
    ratio = _ratio(ours, other)
    goal, met = judge(ratio.median, None, 1.1)
    return Row("P11", "session, w,h beside w,", "s", ours, other, "ours w,", ratio, goal, met)


def _ratio(ours: Spread, theirs: Spread) -> Spread:
    """Of the medians; its spread is what the extremes allow, the rounds not being told."""
    median = ours.median / max(theirs.median, 1e-9)
    return Spread(median, ours.low / max(theirs.high, 1e-9), ours.high / max(theirs.low, 1e-9))
