"""A real Prometheus with the rules of config/prometheus scrapes an installation with several
processes and an image server, after a run of locust.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.cantaloupe_double import cantaloupe_double
from tests.support.scenes import write_jpeg
from tests.support.serve_process import (
    ServeProcess,
    assert_log_clean,
    fetch,
    free_port,
    run_server,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "prometheus"
DASHBOARD = ROOT / "config" / "grafana" / "dashboard.json"


class PrometheusProcess:
    """The HTTP API of a Prometheus."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> Any:
        reply = fetch(f"{self.address}/api/v1/{path}")
        assert reply.status == 200, reply.body
        return reply.json["data"]

    def value(self, query: str) -> list[float]:
        """The values of an instant query."""
        result = self.get(f"query?query={quote(query)}")["result"]
        return [float(each["value"][1]) for each in result]

    def is_scraping(self) -> bool:
        """True if it has a sample of its target; False also before it answers."""
        with suppress(OSError):
            is_ready = fetch(f"{self.address}/-/ready").status == 200
            return is_ready and self.value("up") == [1.0]
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    home = tmp_path_factory.mktemp("watched")
    write_jpeg(home / "pictures" / "one.jpg", 1501, 1003)
    write_jpeg(home / "pictures" / "two.jpg", 1003, 1501, seed=2)
    with ExitStack() as stack:
        double = stack.enter_context(
            cantaloupe_double(home, find=lambda name: Path(f"/{name}"), keeps_derivatives=True)
        )
        pool = home / "pool.toml"
        pool.write_text(
            f'[image_server]\nkind = "cantaloupe"\naddresses = ["{double.address}"]\n'
            'sources_root = "/"\n'
        )
        options = ("--config", str(pool))
        server = stack.enter_context(
            run_server(home / "pictures", workers=2, data=home / "data", arguments=options)
        )
        server.wait_converted(expected=2)
        yield server
        assert_log_clean(server.log())


@pytest.fixture(scope="module")
def prometheus(
    server: ServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusProcess]:
    folder = tmp_path_factory.mktemp("prometheus")
    text = (CONFIG / "prometheus.yml").read_text()
    target = server.private.removeprefix("http://")
    text = text.replace('"orchestrator:8081", "worker:8081"', f'"{target}"').replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text)
    (folder / "alerts.yml").write_text((CONFIG / "alerts.yml").read_text())
    address = f"127.0.0.1:{free_port()}"
    words = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    words += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log, subprocess.Popen(words, stderr=log) as process:
        try:
            watcher = PrometheusProcess(f"http://{address}")
            wait_until(watcher.is_scraping, "Prometheus scrapes", timeout_s=60)
            yield watcher
        finally:
            process.terminate()


def queries() -> list[str]:
    """Every query of the dashboard, with the variables that Grafana fills in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [each["expr"] for panel in panels for each in panel.get("targets", ())]
    return [each.replace("$__rate_interval", "1m") for each in expressions]


@pytest.fixture(scope="module")
def load(server: ServeProcess, prometheus: PrometheusProcess) -> None:
    """A short run of the mixed scenario while Prometheus scrapes."""
    words = [str(Path(sys.executable).with_name("locust")), "--headless", "--only-summary"]
    words += ["-f", str(ROOT / "loadtests" / "locustfile.py"), "--host", server.public]
    words += ["-u", "6", "-r", "6", "-t", "3s"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tile = "/iiif/3/1%2F1%2Fone/0,0,256,256/256,256/0/default.jpg"
    for _ in range(2):
        assert fetch(server.public + tile).status == 200


@pytest.mark.usefixtures("load")
def test_every_query_of_the_dashboard_returns_data_after_a_run_of_locust(
    prometheus: PrometheusProcess,
) -> None:
    missing = queries()
    assert len(missing) > 50

    def is_complete() -> bool:
        missing[:] = [each for each in missing if not prometheus.value(each)]
        return not missing

    with suppress(AssertionError):
        wait_until(is_complete, "data for each query", timeout_s=20)
    assert missing == []


@pytest.mark.usefixtures("load")
def test_rates_latencies_and_ratios_have_numbers(prometheus: PrometheusProcess) -> None:
    for query in (
        "sum(rate(orchestrator_requests_total[1m])) > 0",
        "histogram_quantile(0.99, sum by (le) (rate(orchestrator_request_seconds_bucket[1m])))",
        "sum(orchestrator:answers:ratio_rate5m)",
        "orchestrator:request_errors:ratio_rate5m",
    ):
        wait_until(lambda query=query: prometheus.value(query), query)
        assert not [each for each in prometheus.value(query) if math.isnan(each)], query


def test_each_rule_is_loaded_and_evaluated_without_an_error(
    prometheus: PrometheusProcess,
) -> None:
    def unknown() -> list[str]:
        groups = prometheus.get("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
        assert len(rules) > 20
        return [rule["name"] for rule in rules if rule["health"] != "ok"]

    wait_until(lambda: not unknown(), "every rule is evaluated")


def test_promtool_accepts_the_metrics_of_several_processes(
    server: ServeProcess,
) -> None:
    text = fetch(f"{server.private}/metrics").body
    assert text.count(b"# TYPE ") > 30
    words = ["promtool", "check", "metrics"]
    done = subprocess.run(words, input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
