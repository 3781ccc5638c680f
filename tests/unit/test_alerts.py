"""The alert rules of config/prometheus: promtool evaluates each with series that make it fire, and
with series of normal work.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.metrics import INSTRUMENTS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "config" / "grafana" / "dashboard.json"
AT = 'instance="a",job="orchestrator"'
MINUTES = 200
Series = dict[str, str]


def requests(ok: str, failed: str) -> Series:
    """Counters of answers."""
    name = 'orchestrator_requests_total{request_class="tile",tier="imageserver",status='
    return {f'{name}"200"}}': ok, f'{name}"500"}}': failed}


def histogram(name: str, labels: str, fast: int, slow: int, bounds: tuple[str, str]) -> Series:
    """A histogram with `fast` observations a minute below the first bound, `slow` above it."""
    low, high = bounds
    counts = {low: fast, high: fast + slow, "+Inf": fast + slow}
    series = {
        f'{name}_bucket{{{labels},le="{bound}"}}': f"0+{count}x200"
        for bound, count in counts.items()
    }
    return {**series, f"{name}_count{{{labels}}}": f"0+{fast + slow}x200"}


def tiles(tier: str, fast: int, slow: int, bounds: tuple[str, str]) -> Series:
    labels = f'tier="{tier}",request_class="tile"'
    return histogram("orchestrator_request_seconds", labels, fast, slow, bounds)


def tiers(imageserver: int, memory: int) -> Series:
    name = 'orchestrator_requests_total{request_class="tile",status="200",tier='
    return {
        f'{name}"imageserver"}}': f"0+{imageserver}x200",
        f'{name}"memory"}}': f"0+{memory}x200",
    }


def ages(low: str, high: str) -> Series:
    name, labels = "orchestrator_cache_eviction_age_seconds", 'cache="derivatives",instance="a"'
    return histogram(name, labels, 0, 60, (low, high))


def fill(used: float) -> Series:
    labels = f'{{cache="sources",{AT}}}'
    return {
        f"orchestrator_cache_bytes{labels}": f"{used}x200",
        f"orchestrator_cache_quota_bytes{labels}": "100x200",
    }


def counter(name: str, labels: str, step: float) -> Series:
    return {f"orchestrator_{name}_total{{{labels}}}": f"0+{step}x200"}


def gauge(name: str, labels: str, value: float) -> Series:
    return {f"orchestrator_{name}{{{labels}}}": f"{value}x200"}


NODE = 'pool="default",node="http://cantaloupe:8182",' + AT
CASES: dict[str, tuple[Series, Series]] = {
    "OrchestratorDown": ({f"up{{{AT}}}": "0x200"}, {f"up{{{AT}}}": "1x200"}),
    "OrchestratorErrorBudgetBurnsFast": (
        requests("0+1000x200", "0+20x200"),
        requests("0+1000x200", "0+1x200"),
    ),
    "OrchestratorErrorBudgetBurnsSlowly": (
        requests("0+1000x200", "0+2x200"),
        requests("0+10000x200", "0+1x200"),
    ),
    "OrchestratorTilesSlow": (
        tiles("imageserver", 60, 3, ("2.5", "5")),
        tiles("imageserver", 600, 1, ("2.5", "5")),
    ),
    "OrchestratorCachedTilesSlow": (
        tiles("disk", 60, 3, ("0.25", "0.5")),
        tiles("disk", 600, 1, ("0.25", "0.5")),
    ),
    "OrchestratorFewCacheAnswers": (tiers(600, 60), tiers(60, 600)),
    "OrchestratorOverloaded": (
        counter("refused", 'what="request"', 60),
        counter("refused", 'what="request"', 1),
    ),
    "OrchestratorEventLoopLate": (
        histogram("orchestrator_event_loop_delay_seconds", AT, 60, 3, ("0.25", "0.5")),
        histogram("orchestrator_event_loop_delay_seconds", AT, 600, 1, ("0.25", "0.5")),
    ),
    "OrchestratorDatabaseAway": (
        gauge("database_breaker_open", AT, 2),
        gauge("database_breaker_open", AT, 0),
    ),
    "OrchestratorListenerLost": (counter("listener_lost", AT, 1), counter("listener_lost", AT, 0)),
    "OrchestratorImageServerAway": (
        gauge("image_server_breaker_open", NODE, 1),
        gauge("image_server_breaker_open", NODE, 0),
    ),
    "OrchestratorTierFails": (
        counter("tier_failures", 'tier="thumb",error="StorageUnavailable"', 60),
        counter("tier_failures", 'tier="thumb",error="StorageUnavailable"', 1),
    ),
    "OrchestratorFolderUnreadable": (
        gauge("folder_unreadable", AT, 1),
        gauge("folder_unreadable", AT, 0),
    ),
    "OrchestratorLoopFails": (
        counter("loop_failures", f'loop="scavenger",{AT}', 1),
        counter("loop_failures", f'loop="scavenger",{AT}', 0.1),
    ),
    "OrchestratorCacheFull": (fill(100), fill(95)),
    "OrchestratorCacheRefuses": (
        counter("cache_refused", f'cache="sources",why="room",{AT}', 60),
        counter("cache_refused", f'cache="sources",why="room",{AT}', 1),
    ),
    "OrchestratorCacheTooSmall": (ages("60", "600"), ages("3600", "21600")),
    "OrchestratorQueueOld": (
        gauge("job_queue_age_seconds", f'lane="priority",{AT}', 400),
        gauge("job_queue_age_seconds", f'lane="normal",{AT}', 400),
    ),
    "OrchestratorDeadLetters": (
        counter("job_dead_letters", 'code="origin_not_found"', 1),
        counter("job_dead_letters", 'code="origin_not_found"', 0.1),
    ),
    "OrchestratorWorkersDie": (counter("jobs_recovered", AT, 1), counter("jobs_recovered", AT, 0)),
}


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def rule_test(alert: str, series: Series, *, fires: bool) -> dict[str, Any]:
    """One test in promtool's format: whether the alert fires at the end of the series."""
    firing = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    return {
        "name": f"{alert} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count(last_over_time({firing}[5m]))",
                "eval_time": f"{MINUTES}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def test_each_alert_has_series_that_fire_it_and_a_text() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert [rule["alert"] for rule in alerts] == list(CASES)
    for rule in alerts:
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]


def test_each_alert_fires_on_its_fault_and_is_quiet_without_it(tmp_path: Path) -> None:
    path = tmp_path / "alerts.test.yml"
    whole = {
        "rule_files": [str(RULES)],
        # Else promtool takes the groups in any order, and an alert can miss the newest records.
        "group_eval_order": [group["name"] for group in groups()],
        "evaluation_interval": "5m",
        "tests": [
            rule_test(alert, series, fires=fires)
            for alert, pair in CASES.items()
            for series, fires in zip(pair, (True, False), strict=True)
        ],
    }
    path.write_text(json.dumps(whole))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_of_prometheus() -> None:
    words = ["promtool", "check", "config", str(RULES.with_name("prometheus.yml"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
NAMES = {each.name + suffix for each in INSTRUMENTS for suffix in SUFFIXES[each.kind]}


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_rules_and_dashboard_name_only_metrics_and_records_that_exist(path: Path) -> None:
    text = path.read_text()
    assert sorted(set(re.findall(r"\borchestrator_\w+", text)) - NAMES) == []
    records = {rule["record"] for rule in rules() if "record" in rule}
    assert set(re.findall(r"\borchestrator:\w+:\w+", text)) <= records


def test_the_dashboard_shows_every_metric() -> None:
    text = DASHBOARD.read_text()
    assert [each.name for each in INSTRUMENTS if each.name not in text] == []


def test_names_of_metrics_follow_the_conventions_of_prometheus() -> None:
    """Beyond what promtool checks: base units, and no label that repeats the name or has values
    without bound.
    """
    for each in INSTRUMENTS:
        assert re.fullmatch(r"orchestrator(_[a-z]+)+", each.name), each.name
        assert (each.kind == "counter") == each.name.endswith("_total"), each.name
        assert not re.search(r"_(ms|us|milliseconds|minutes|hours|mb|kb|percent)\b", each.name)
        if each.kind == "histogram":
            assert each.name.endswith("_seconds"), each.name
        assert not {"asset", "id", "url", "path", "key", "le", "instance", "job"} & {*each.labels}
