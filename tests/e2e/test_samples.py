"""Every sample picture through the installed command and HTTP: right as tile, thumbnail, whole and
rotated, through both versions of the API, from the original and after conversion.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from tests.corpus.questions import Questions
from tests.support.samples import Pixels, Sample, difference, list_samples, rgba, scaled
from tests.support.serve_process import ServeProcess, assert_log_clean, fetch, run_server

SAMPLES = list_samples()
POLICIES = ["use-original", "fastest", pytest.param("fast-lossy", marks=pytest.mark.soak)]
_ROTATED = 44


@dataclass(frozen=True)
class SampleServer:
    """A server of all samples under one policy. `slack` multiplies the bounds of comparisons."""

    process: ServeProcess
    slack: int


@pytest.fixture(scope="module", params=POLICIES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleServer]:
    """The samples, served under one policy; every conversion has ended."""
    home = tmp_path_factory.mktemp("samples")
    (home / "pictures").mkdir()
    for sample in SAMPLES:
        shutil.copy(sample.path, home / "pictures")
    environment = {"ORCHESTRATOR_INGEST__FOLDER_POLICY": request.param}
    with run_server(home / "pictures", data=home / "data", env=environment) as process:
        process.wait_converted()
        yield SampleServer(process, 1 if request.param == "use-original" else 2)
    assert_log_clean(process.log())
    assert "decode worker ended" not in process.log()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_sample_is_right_through_both_versions(server: SampleServer, sample: Sample) -> None:
    expected = sample.expected
    questions = Questions(server.process.public, server.slack)
    answers = questions.ask(f"1%2F1%2F{sample.name}", expected, "sample")
    faults = answers.faults + answers.server_errors
    if answers.refused:
        faults.append(f"{answers.refused}: {answers.reason}")
    faults += _rotated_faults(server, sample, expected)
    faults += _thumbnail_faults(server, sample, expected)
    assert not faults, "; ".join(faults)


def test_the_comparison_finds_a_wrong_picture(server: SampleServer) -> None:
    """With the expected picture of a mirrored file nothing agrees, in both versions."""
    sample = next(each for each in SAMPLES if each.name == "j_progressive")
    assert sample.expected is not None
    wrong = np.ascontiguousarray(sample.expected[:, ::-1])
    questions = Questions(server.process.public, server.slack)
    answers = questions.ask(f"1%2F1%2F{sample.name}", wrong, "sample")
    assert answers.compared == len(answers.faults) == 4
    assert not answers.refused
    assert not answers.server_errors


def _rotated_faults(server: SampleServer, sample: Sample, expected: Pixels | None) -> list[str]:
    """Faults of the picture at about a third of its size, mirrored and turned by 90 degrees, in
    both versions, which must be the same bytes.
    """
    bodies = []
    for version in (2, 3):
        path = f"/iiif/{version}/1%2F1%2F{sample.name}/full/66,/!90/default.png"
        reply = fetch(server.process.public + path)
        if reply.status != 200:
            return [f"{path}: {reply.status} {reply.body[:100]!r}"]
        bodies.append(reply.body)
    if bodies[0] != bodies[1]:
        return ["the versions answer different bytes to a rotated picture"]
    if expected is None:
        return []
    got = rgba(Image.open(io.BytesIO(bodies[0])))
    upright = scaled(expected, (got.shape[0], got.shape[1]))
    value = difference(got, np.rot90(upright[:, ::-1], -1))
    return [f"rotated: differs by {value:.0f}"] if value > _ROTATED * server.slack else []


def _thumbnail_faults(server: SampleServer, sample: Sample, expected: Pixels | None) -> list[str]:
    """Faults of a stored thumbnail, where there is one."""
    reply = fetch(f"{server.process.public}/thumbs/1/1/{sample.name}/full/!100,100/0/default.jpg")
    if reply.status == 404 or expected is None:
        return []
    if reply.status != 200:
        return [f"thumbs: {reply.status}"]
    picture = Image.open(io.BytesIO(reply.body)).convert("RGBA")
    white = Image.new("RGBA", (expected.shape[1], expected.shape[0]), "white")
    opaque = np.asarray(Image.alpha_composite(white, Image.fromarray(expected)))
    value = difference(np.asarray(picture)[..., :3], scaled(opaque, picture.size)[..., :3])
    return [f"thumbs: differs by {value:.0f}"] if value > 44 * server.slack else []
