"""The files for operators in config/ and .github/ are accepted by the programs that read them, or
by their schemas.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.settings import load

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def run(*words: str | Path) -> None:
    done = subprocess.run(
        [str(each) for each in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def resources() -> dict[tuple[str, str], Any]:
    """The Kubernetes resources by kind and name."""
    documents = yaml.safe_load_all((CONFIG / "kubernetes.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pods() -> dict[str, Any]:
    """The specification of the pods of each workload."""
    return {
        name: resource["spec"]["template"]["spec"]
        for (kind, name), resource in resources().items()
        if kind in ("StatefulSet", "Deployment")
    }


def services() -> dict[str, Any]:
    """The services of the compose file."""
    found: dict[str, Any] = yaml.safe_load((CONFIG / "compose.yaml").read_text())["services"]
    return found


def test_haproxy_accepts_its_configuration() -> None:
    run("haproxy", "-c", "-f", CONFIG / "haproxy.cfg")


def test_envoy_accepts_its_configuration() -> None:
    run(BIN / "envoy", "--mode", "validate", "-c", CONFIG / "envoy.yaml", "-l", "error")


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    text = (CONFIG / "nginx.conf").read_text()
    text = text.replace("server orchestrator:8080", "server 127.0.0.1:8080")  # no DNS here
    text = text.replace("/var/cache/nginx", str(tmp_path / "cache"))
    (tmp_path / "nginx.conf").write_text(re.sub(r"pid .*?;", f"pid {tmp_path}/pid;", text))
    run("nginx", "-t", "-c", tmp_path / "nginx.conf", "-p", tmp_path, "-e", "stderr")


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", CONFIG / "cantaloupe.Dockerfile"])
def test_hadolint_accepts_the_dockerfiles(path: Path) -> None:
    run(BIN / "hadolint", "--no-color", path)


def test_kubernetes_accepts_the_resources() -> None:
    run(BIN / "kubernetes-validate", "--strict", "--quiet", CONFIG / "kubernetes.yaml")


def test_the_compose_file_follows_its_schema() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    run(BIN / "check-jsonschema", *schema, CONFIG / "compose.yaml")


@pytest.mark.parametrize("schema", ["vendor", "custom"])
def test_workflows_follow_their_schema_and_have_time_limits(schema: str) -> None:
    name = {"vendor": "github-workflows", "custom": "github-workflows-require-timeout"}[schema]
    run(BIN / "check-jsonschema", "--builtin-schema", f"{schema}.{name}", *WORKFLOWS)


def test_workflows_use_actions_by_commit_and_grant_no_right_that_is_not_named() -> None:
    assert [path.name for path in WORKFLOWS] == ["image.yml", "nightly.yml", "release.yml"]
    for path in WORKFLOWS:
        text = path.read_text()
        actions = re.findall(r"uses: (?!\./)(\S+)", text)
        assert [each for each in actions if not re.search(r"@[0-9a-f]{40}$", each)] == []
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}, path.name


def test_shells_in_workflows_contain_no_value_that_a_stranger_can_write() -> None:
    """A `${{ }}` in a script is replaced before the shell parses it."""
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            scripts = [step.get("run", "") for step in job.get("steps", ())]
            assert not [each for each in scripts if "${{" in each], path.name
            for script in scripts:
                run("bash", "-n", "-c", script)


def test_pods_are_not_root_write_only_to_volumes_and_have_resources_and_probes() -> None:
    assert set(pods()) == {"orchestrator", "orchestrator-worker"}
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        (container,) = pod["containers"]
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["path"].startswith("/health/")
        mounted = {each["mountPath"] for each in container["volumeMounts"]}
        assert mounted == {"/data", "/tmp", "/etc/orchestrator"}


def test_a_pod_is_given_longer_to_end_than_it_drains(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(resources()["ConfigMap", "orchestrator"]["data"]["settings.toml"])
    settings = load(path, {}, {})
    for name, pod in pods().items():
        (container,) = pod["containers"]
        hook = container.get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
        before_s = int(hook["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] > before_s + settings.server.drain_s + 5, name


def test_each_workload_is_scaled_and_only_one_replica_is_taken_at_a_time() -> None:
    found = resources()
    for name in pods():
        target = found["HorizontalPodAutoscaler", name]["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in found
    budget = found["PodDisruptionBudget", "orchestrator"]["spec"]
    assert budget["maxUnavailable"] == 1


def test_images_have_versions_and_services_say_when_they_are_ready() -> None:
    for name, service in services().items():
        if "build" not in service and service["image"] != "orchestrator":
            assert re.search(r":v?\d+\.\d+", service["image"]), name
        # The image of the product has a health check; `bucket` ends when it is done.
        assert "healthcheck" in service or name in ("orchestrator", "bucket"), name


def test_every_secret_of_the_compose_file_is_asked_for_and_has_no_default() -> None:
    text = (CONFIG / "compose.yaml").read_text()
    example = (CONFIG / "compose.env.example").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert needed == set(re.findall(r"^(\w+)=$", example, re.M))
    assert set(re.findall(r"\$\{(\w+):-", text)) == set(re.findall(r"^# (\w+)=", example, re.M))
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN|DSN", name):
                assert "${" in value, name


@pytest.mark.parametrize("kind", ["builtin", "cantaloupe"])
def test_the_settings_of_the_compose_file_are_valid(kind: str) -> None:
    values = {
        "IMAGE_SERVER": kind,
        "IMAGE_SERVER_ADDRESSES": "" if kind == "builtin" else "http://cantaloupe:8182",
        "CREDENTIALS_KEYS": "",
    }
    for service in ("orchestrator", "worker"):
        environment = {
            name: re.sub(r"\$\{(\w+)[^}]*\}", lambda m: values.get(m[1], "x" * 40), value)
            for name, value in services()[service]["environment"].items()
        }
        settings = load(None, environment, {})
        assert settings.storage.bucket == "pictures"
        assert settings.server.private_host == "0.0.0.0"


def test_files_that_the_compose_file_mounts_exist() -> None:
    for service in services().values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (CONFIG / volume.partition(":")[0]).exists(), volume


def test_grafana_is_provisioned_with_the_dashboard_and_its_source() -> None:
    provisioning = CONFIG / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "orchestrator.yaml").read_text())[
        "providers"
    ]
    mounts = {each.split(":")[1] for each in services()["grafana"]["volumes"]}
    assert f"{provider['options']['path']}/dashboard.json" in mounts
    panels = json.loads((CONFIG / "grafana" / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(places)) == len(places)
