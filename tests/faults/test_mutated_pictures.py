"""Thousands of damaged files made from the sample pictures: each gives pixels or a refusal with a
code, the same a second time, and none ends a decode worker or needs much memory.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.errors import OrchestratorError, TooLarge, Unprocessable
from orchestrator.imaging import FASTEST, Probe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe
from tests.support.mutations import mutate
from tests.support.process_table import peak_bytes
from tests.support.samples import Sample, list_samples

SAMPLES = list_samples()
WORKER_BYTES = 900 * 1024**2
"""A decode worker may use this much memory for a picture of up to `MAX_PIXELS` pixels."""
MAX_PIXELS = 20_000_000
_SMALL = 300


@dataclass(frozen=True)
class Verdict:
    """The code of the refusal or the size of the picture; its bytes."""

    kind: str
    body: bytes = b""


async def judge(pool: ImagingPool, path: Path) -> Verdict:
    """What probing and rendering the file gives. Any error but a coded refusal is raised."""
    try:
        probe = await pool.probe(path)
        body = await pool.render(a_recipe(path, probe, **_confined(probe)))
    except (Unprocessable, TooLarge) as error:
        assert error.code not in ("internal", "unprocessable", "decode_failed"), repr(error)
        assert error.public.endswith(".")
        return Verdict(error.code)
    with Image.open(io.BytesIO(body)) as picture:
        picture.load()
        assert picture.size == _confined(probe)["size"]
    return Verdict("pixels", body)


def _confined(probe: Probe) -> dict[str, tuple[int, int]]:
    longest = max(probe.dimensions)
    factor = min(1.0, _SMALL / longest)
    return {"size": (max(1, int(probe.width * factor)), max(1, int(probe.height * factor)))}


def _peak(pool: ImagingPool) -> int:
    return max(map(peak_bytes, pool.pids), default=0)


async def run_mutations(
    folder: Path, seeds: range, caplog: pytest.LogCaptureFixture, samples: list[Sample]
) -> None:
    """Judge one mutation for each seed, and assert all that the module promises."""
    pool = ImagingPool(Imaging(processes=1, threads=1, max_pixels=MAX_PIXELS, decode_timeout_s=30))
    faults: list[str] = []
    caplog.set_level(logging.WARNING, "orchestrator")
    try:
        sizes = {sample.name: (await _size(pool, sample)) for sample in samples}
        for seed in seeds:
            sample = samples[seed % len(samples)]
            path = folder / f"{seed}-{sample.path.name}"
            path.write_bytes(mutate(sample.path.read_bytes(), seed, sizes[sample.name]))
            fault = await _fault_of(pool, path, caplog)
            if fault:
                faults.append(f"{path.name}: {fault}")
            else:
                path.unlink()
            if _peak(pool) > WORKER_BYTES:
                faults.append(f"{path.name}: a worker used {_peak(pool) // 1024**2} MiB")
                break
    finally:
        await pool.close()
    assert not faults, f"{len(faults)} of {len(seeds)}, kept in {folder}:\n" + "\n".join(faults)


async def _size(pool: ImagingPool, sample: Sample) -> tuple[int, int]:
    try:
        return (await pool.probe(sample.path)).dimensions
    except OrchestratorError:
        return (0, 0)


async def _fault_of(pool: ImagingPool, path: Path, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    try:
        first, second = await judge(pool, path), await judge(pool, path)
    except Exception as error:  # every kind of exception is a finding of this test
        return f"{type(error).__name__} {error}"
    deaths = sum(record.message == "decode worker ended" for record in caplog.records)
    if deaths:
        return f"{deaths} workers ended, verdict {first.kind}"
    if first != second:
        return f"first {first.kind}, then {second.kind}"
    return ""


async def test_a_damaged_sample_gives_pixels_or_a_coded_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One mutation of each sample."""
    await run_mutations(tmp_path, range(len(SAMPLES)), caplog, SAMPLES)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_two_thousand_damaged_samples_give_pixels_or_coded_refusals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run_mutations(tmp_path, range(1000, 3000), caplog, SAMPLES)


async def test_a_damaged_sample_is_converted_or_refused_the_same_way_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A conversion that met a decoding error never succeeds, and none ends its worker."""
    caplog.set_level(logging.WARNING, "orchestrator")
    pool = ImagingPool(Imaging(processes=1, threads=1, max_pixels=MAX_PIXELS))
    faults = []
    try:
        for seed in range(5000, 5020):
            sample = SAMPLES[seed * 7 % len(SAMPLES)]
            path = tmp_path / f"{seed}-{sample.path.name}"
            path.write_bytes(mutate(sample.path.read_bytes(), seed))
            codes = {await _conversion_verdict(pool, path, tmp_path / "out") for _ in range(2)}
            if len(codes) > 1:
                faults.append(f"{path.name}: {codes}")
    finally:
        await pool.close()
    ended = [record.call for record in caplog.records if record.message == "decode worker ended"]  # type: ignore[attr-defined]
    assert faults == []
    assert ended == []


async def _conversion_verdict(pool: ImagingPool, path: Path, target: Path) -> str:
    try:
        await pool.convert(path, target, FASTEST)
    except (Unprocessable, TooLarge) as error:
        return error.code
    return "ready"
