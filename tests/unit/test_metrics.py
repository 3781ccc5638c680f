"""Metrics: each is documented, summed over processes, and counted in bulk by the hot lane."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import REGISTRY as LIBRARY_REGISTRY

from orchestrator import metrics

CHILD = """
import os, sys
from orchestrator import metrics
metrics.RENDERS.inc(int(sys.argv[1]))
metrics.POOL_IN_USE.labels("threads").set(2)
metrics.count_fast(1000, 12000, "tile", 200)
print(os.getpid())
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
    assert not any(name.startswith(metrics.PREFIX) for name in names)


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


def test_processes_are_summed_and_the_counters_of_a_dead_process_stay(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pids = [
        int(subprocess.check_output([sys.executable, "-c", CHILD, n], env=environment))
        for n in ("2", "3")
    ]
    text = metrics.render_metrics(tmp_path).decode()
    assert "orchestrator_renders_total 5.0" in text
    assert 'orchestrator_pool_in_use{pool="threads"} 4.0' in text
    assert "orchestrator_request_seconds_count" in text
    for pid in pids:
        metrics.forget_process(pid, tmp_path)
    text = metrics.render_metrics(tmp_path).decode()
    assert "orchestrator_renders_total 5.0" in text
    assert "orchestrator_pool_in_use{" not in text
