"""Every sample picture through one decode worker: right in every kind of request, and the same a
second time, whatever the worker rendered before.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.errors import OrchestratorError
from orchestrator.imaging import Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.workers.sandbox import FileAccess
from orchestrator.settings import Imaging
from tests.golden.sample_requests import REQUESTS, SampleRequest, centre, rotated
from tests.support.samples import Sample, difference, list_samples, rgba

SAMPLES = list_samples()
FIRST = 3
"""The requests that every sample gets, also in the short form: whole, tile and thumbnail. Of the
others it gets every second one, and the next sample those between.
"""
_NEAR_THRESHOLD = 32
_SAME_SIDE = 0.97
"""In a bitonal picture, the least part of the clearly light or dark pixels that are right."""


@dataclass
class OneWorker:
    """A pool with one worker, and what it answered to each request in the first order. `step` 2 is
    the short form, 1 is every request.
    """

    pool: ImagingPool
    step: int
    probes: dict[str, Probe] = field(default_factory=dict)
    answers: dict[tuple[str, str], bytes | OrchestratorError] = field(default_factory=dict)

    async def ask(self, sample: Sample, request: SampleRequest) -> bytes | OrchestratorError:
        """The encoded picture, or the error."""
        try:
            if sample.name not in self.probes:
                self.probes[sample.name] = await self.pool.probe(sample.path)
            recipe = request.recipe(str(sample.path), self.probes[sample.name])
            return await self.pool.render(recipe)
        except OrchestratorError as error:
            return error

    def requests(self, sample: Sample) -> tuple[SampleRequest, ...]:
        """The requests of a sample."""
        start = FIRST + SAMPLES.index(sample) % self.step
        return REQUESTS[:FIRST] + REQUESTS[start :: self.step]

    async def ask_all(self) -> None:
        """Ask for every sample, sample by sample."""
        for sample in SAMPLES:
            for request in self.requests(sample):
                self.answers[sample.name, request.name] = await self.ask(sample, request)


def _confined_pool() -> ImagingPool:
    """A pool whose one worker may read the samples and nothing else."""
    folders = {sample.path.parent for sample in SAMPLES}
    temporary = Path(tempfile.gettempdir())
    files = FileAccess(tuple(folders), (), temporary)
    return ImagingPool(Imaging(processes=1, threads=1, siblings=False), files=files)


@pytest.fixture(
    scope="module", params=[2, pytest.param(1, marks=pytest.mark.soak)], ids=["short", "long"]
)
def worker(request: pytest.FixtureRequest) -> Iterator[OneWorker]:
    """One worker that has rendered every sample, in the order of their names."""
    with asyncio.Runner() as runner:
        worker = OneWorker(_confined_pool(), request.param)
        runner.run(worker.ask_all())
        yield worker
        runner.run(worker.pool.close())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_sample_is_right_in_every_kind_of_request(worker: OneWorker, sample: Sample) -> None:
    expected = sample.expected
    faults = []
    for request in worker.requests(sample):
        answer = worker.answers[sample.name, request.name]
        if isinstance(answer, OrchestratorError):
            faults.append(f"{request.name}: {answer!r}")
            continue
        picture = Image.open(io.BytesIO(answer))
        picture.load()
        if expected is not None and (fault := _fault_of(picture, request, expected)):
            faults.append(f"{request.name}: {fault}")
    assert not faults, "; ".join(faults)


@pytest.mark.timeout(600)
async def test_the_second_answer_of_a_worker_is_the_first_one_in_any_order(
    worker: OneWorker,
) -> None:
    """The second time, it is asked in the reversed order."""
    different = [
        (sample.name, request.name)
        for sample in reversed(SAMPLES)
        for request in reversed(REQUESTS[:FIRST])
        if not _is_same(
            await worker.ask(sample, request), worker.answers[sample.name, request.name]
        )
    ]
    assert different == []


def _is_same(one: bytes | OrchestratorError, other: bytes | OrchestratorError) -> bool:
    if isinstance(one, bytes) or isinstance(other, bytes):
        return one == other
    return one.code == other.code


def _fault_of(picture: Image.Image, request: SampleRequest, expected: np.ndarray) -> str:  # type: ignore[type-arg]
    want = request.expect(expected)
    if request.quality == "bitonal":
        return _bitonal_fault(np.asarray(picture.convert("L")), want)
    got = np.asarray(picture.convert("RGB")) if request.format == "jpg" else rgba(picture)
    if request.format == "jpg" and picture.mode not in ("RGB", "L"):
        return f"a JPEG of mode {picture.mode}"
    if request.rotation % 90:
        want = rotated(want, request.rotation)
        if any(abs(a - b) > 2 for a, b in zip(got.shape, want.shape, strict=True)):
            return f"{got.shape}, expected {want.shape}"
        height, width = expected.shape[0] // 4, expected.shape[1] // 4
        got, want = centre(got, width, height), centre(want, width, height)
    value = difference(got, want)
    return f"differs by {value:.0f} (bound {request.bound})" if value > request.bound else ""


def _bitonal_fault(got: np.ndarray, want: np.ndarray) -> str:  # type: ignore[type-arg]
    """Compares where the gray picture is clearly lighter or darker than the threshold."""
    gray = want[..., 0].astype(np.int16)
    if got.shape != gray.shape:
        return f"{got.shape}, expected {gray.shape}"
    if set(np.unique(got)) - {0, 255}:
        return "has other values than black and white"
    is_clear = np.abs(gray - 128) > _NEAR_THRESHOLD
    is_right = (got >= 128) == (gray >= 128)
    part = float(is_right[is_clear].mean()) if is_clear.any() else 1.0
    return f"{part:.2f} of the pixels are right" if part < _SAME_SIDE else ""
