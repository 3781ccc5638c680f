"""Metrics: each is documented, summed over processes, and counted in bulk by the hot lane."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY as LIBRARY_REGISTRY

from orchestrator import metric_files, metrics
from orchestrator.instruments import PREFIX
from orchestrator.metric_files import clear_gauges
from tests.support.small_disks import mounted

CHILD = """
import multiprocessing, sys
multiprocessing.current_process().name = sys.argv[1]
from orchestrator import metrics
metrics.RENDERS.inc(int(sys.argv[2]))
metrics.POOL_IN_USE.labels("threads").set(2)
metrics.count_fast(1000, 12000, "tile", 200)
"""


def test_each_metric_is_documented_and_no_other() -> None:
    text = Path("docs/metrics.md").read_text()
    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert documented == [instrument.name for instrument in metrics.INSTRUMENTS]
    for instrument in metrics.INSTRUMENTS:
        assert instrument.help in text, f"{instrument.name}: run `make docs`"


def test_the_list_of_instruments_holds_every_metric() -> None:
    assert len(metrics.all_metrics()) == len(metrics.INSTRUMENTS)


def test_the_default_registry_of_the_library_stays_empty() -> None:
    names = {name for c in LIBRARY_REGISTRY._collector_to_names.values() for name in c}
    assert not any(name.startswith(PREFIX) for name in names)


def test_responses_counted_in_bulk_count_as_if_observed_one_by_one() -> None:
    metrics.count_fast(5, 500, "bulk-test", 200)
    text = metrics.render_metrics().decode()
    labels = 'request_class="bulk-test",tier="memory"'
    assert f"orchestrator_request_seconds_count{{{labels}}} 5.0" in text
    assert f'orchestrator_request_seconds_bucket{{le="0.0005",{labels}}} 5.0' in text
    assert f'orchestrator_request_seconds_bucket{{le="+Inf",{labels}}} 5.0' in text
    assert (
        'orchestrator_requests_total{request_class="bulk-test",status="200",tier="memory"} 5.0'
        in text
    )


def count_in_a_process(name: str, number: int, folder: Path) -> None:
    """Count renders in a spawned process with this name, which then ends."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    words = [sys.executable, "-c", CHILD, name, str(number)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_processes_are_summed_and_the_counters_of_a_dead_process_stay(tmp_path: Path) -> None:
    for name, number in (("serve-0", 2), ("serve-1", 3)):
        count_in_a_process(name, number, tmp_path)
    text = metrics.render_metrics(tmp_path).decode()
    assert "orchestrator_renders_total 5.0" in text
    assert 'orchestrator_pool_in_use{pool="threads"} 4.0' in text
    assert "orchestrator_request_seconds_count" in text
    for name in ("serve-0", "serve-1"):
        clear_gauges(name, tmp_path)
    text = metrics.render_metrics(tmp_path).decode()
    assert "orchestrator_renders_total 5.0" in text
    assert "orchestrator_pool_in_use{" not in text


def test_a_restarted_process_continues_the_files_of_the_one_before(tmp_path: Path) -> None:
    count_in_a_process("serve-0", 2, tmp_path)
    files = sorted(tmp_path.iterdir())
    clear_gauges("serve-0", tmp_path)
    count_in_a_process("serve-0", 3, tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    text = metrics.render_metrics(tmp_path).decode()
    assert "orchestrator_renders_total 5.0" in text
    assert 'orchestrator_pool_in_use{pool="threads"} 2.0' in text


def test_all_blocks_of_a_file_are_allocated_before_it_is_mapped(tmp_path: Path) -> None:
    count_in_a_process("serve-0", 2, tmp_path)
    for path in tmp_path.iterdir():
        assert path.stat().st_blocks * 512 >= path.stat().st_size, path.name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB: room for a few of the files."""
    with mounted(tmp_path / "disk", "size=256k") as at:
        yield at


def test_a_file_that_cannot_grow_on_a_full_disk_is_continued_in_memory(small_disk: Path) -> None:
    written = metric_files.AllocatedDict(str(small_disk / "counter_serve-0.db"))
    written.write_value("first", 1.0, 0.0)
    with suppress(OSError):
        (small_disk / "others").write_bytes(bytes(256 * 1024))
    for number in range(5000):
        written.write_value(f"value {number}", float(number), 0.0)
    assert written.read_value("first") == (1.0, 0.0)
    assert written.read_value("value 4999") == (4999.0, 0.0)
    written.close()
    seen = metric_files.AllocatedDict.read_all_values_from_file(
        str(small_disk / "counter_serve-0.db")
    )
    assert "first" in {key for key, *_ in seen}, "other processes see the last values"
    unseen = metric_files.AllocatedDict(str(small_disk / "gauge_serve-0.db"))
    unseen.write_value("first", 1.0, 0.0)
    assert unseen.read_value("first") == (1.0, 0.0)
    assert [path.name for path in small_disk.glob("gauge*")] == []
    unseen.close()


def test_the_folder_is_in_memory_if_there_is_room_else_below_the_data_directory(
    small_disk: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert metric_files.make_folder(data, 3).parent == metric_files.MEMORY_DISK
    assert metric_files.make_folder(data, 3, memory_disk=small_disk) == data / "metrics"
    assert metric_files.make_folder(data, 3, memory_disk=tmp_path / "none") == data / "metrics"
    shutil.rmtree(metric_files.make_folder(data, 3))
    assert not (data / "metrics").exists(), "the folder of an earlier run was removed"


def test_promtool_accepts_the_metrics_of_one_process() -> None:
    metrics.count_fast(1, 100, "tile", 200)
    text = metrics.render_metrics()
    assert b"_created" not in text, "several processes have no such series"
    words = ["promtool", "check", "metrics"]
    done = subprocess.run(words, input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
