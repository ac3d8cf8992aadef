"""The Kubernetes manifests are valid, locked down and fit to the service; no cluster needed."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from fastapi.testclient import TestClient
from manifests import ADAPTER, KEDA, KUBERNETES, ROOT, read
from programs import run, tool

from service.app import create_app
from service.settings import Settings

KUSTOMIZATIONS = sorted([*KUBERNETES.rglob("kustomization.yaml"), ROOT / "deploy/grafana/kustomization.yaml"])
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


DEPLOYMENT = read("base/deployment.yaml")["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
SERVICE = read("base/service.yaml")


@cache
def rendered(overlay: str) -> dict[tuple[str, str], dict[str, Any]]:
    command = [tool("kubectl"), "kustomize", str(KUBERNETES / "overlays" / overlay)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text)}


def listed(kustomization: Path) -> set[Path]:
    """What a kustomization names, whole resources and patches."""
    content = yaml.safe_load(kustomization.read_text())
    patches = [patch["path"] for patch in content.get("patches", []) if "path" in patch]
    files = [name for generator in content.get("configMapGenerator", []) for name in generator["files"]]
    names = content.get("resources", []) + content.get("components", []) + patches + files
    return {(kustomization.parent / name).resolve() for name in names}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_kustomization_names_what_lies_beside_it_and_nothing_that_is_missing(path: Path) -> None:
    names = listed(path)
    assert all(name.is_file() or (name / "kustomization.yaml").is_file() for name in names)
    beside = {other.resolve() for other in path.parent.glob("*.yaml")} - {path.resolve()}
    not_ours = {KUBERNETES / "components/hpa/prometheus-adapter.yaml"}  # values for somebody else's chart
    assert beside - not_ours <= names


def test_every_resource_is_valid_for_kubernetes() -> None:
    resources = {path for kustomization in KUSTOMIZATIONS for path in listed(kustomization) if path.is_file()}
    whole = [yaml.safe_load(path.read_text()) for path in resources if path.parent.parent.name != "overlays"]
    documents = [item for item in whole if "kind" in item and item["kind"] not in CUSTOM_KINDS]
    documents = [item for item in documents if item["kind"] != "Deployment" or "selector" in item["spec"]]
    assert len(documents) >= 8
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_kustomize_makes_of_an_overlay_is_valid_and_in_one_namespace(overlay: str) -> None:
    for (kind, name), item in rendered(overlay).items():
        if kind not in CUSTOM_KINDS:
            kubernetes_validate.validate(item, "1.37", strict=True)
        assert (name if kind == "Namespace" else item["metadata"]["namespace"]) == "exitramp"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_keeps_the_pod_locked_down_its_selectors_and_a_pinned_image(overlay: str) -> None:
    objects = rendered(overlay)
    deployment = objects["Deployment", "exitramp"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["securityContext"] == CONTAINER["securityContext"]
    assert deployment["template"]["spec"]["securityContext"] == POD["securityContext"]
    assert "replicas" not in deployment, "the autoscaler's business"
    assert re.fullmatch(rf"exitramp:{re.escape(VERSION)}(-cu\d+)?", container["image"])
    policy = objects["NetworkPolicy", "exitramp"]["spec"]
    # kustomize's own labels in selectors would end up here too, and no name be resolved.
    assert policy["egress"][0]["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    dashboard = objects["ConfigMap", "exitramp-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    committed = (ROOT / "deploy/grafana/dashboards/exitramp.json").read_text()
    assert json.loads(dashboard["data"]["exitramp.json"]) == json.loads(committed)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_checkov_has_no_open_finding(overlay: str, tmp_path: Path) -> None:
    checkov = tool("checkov")
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(rendered(overlay).values()))
    run(checkov, "--skip-download", "--quiet", "--compact", "--framework", "kubernetes", "--file", file)


def test_the_pod_can_neither_be_root_nor_write_nor_gain_anything() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] == 10_001
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in CONTAINER["volumeMounts"]] == ["/tmp"]
    labels = read("base/namespace.yaml")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_services_address_is_not_taken_for_a_setting() -> None:
    """Links to a Service named exitramp are variables such as EXITRAMP_PORT=tcp://10.0.0.1:80."""
    injected = f"{SERVICE['metadata']['name']}_port".upper()
    assert injected in {f"EXITRAMP_{name}".upper() for name in Settings.model_fields}
    assert POD["enableServiceLinks"] is False


def test_a_pod_that_ends_has_time_to_drain() -> None:
    grace_s = int(environment(CONTAINER)["EXITRAMP_SHUTDOWN_GRACE_S"])
    leaving_s = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert leaving_s + grace_s < POD["terminationGracePeriodSeconds"]
    assert DEPLOYMENT["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_probes_ask_what_the_service_answers() -> None:
    kinds = ("startup", "readiness", "liveness")
    paths = [CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in kinds]
    assert paths == ["/readyz", "/readyz", "/livez"]
    (endpoint,) = read("components/monitoring/service-monitor.yaml")["spec"]["endpoints"]
    client = TestClient(create_app(Settings()))  # not started: alive, and not ready
    assert {path: client.get(path).status_code for path in {*paths, endpoint["path"]}} == {
        "/livez": 200,
        "/readyz": 503,
        "/metrics": 200,
    }


def test_every_setting_that_a_manifest_names_exists() -> None:
    text = "".join(path.read_text() for path in KUBERNETES.rglob("*.yaml"))
    named = set(re.findall(r"name: (EXITRAMP_\w+)", text))
    assert named and named <= {f"EXITRAMP_{name}".upper() for name in Settings.model_fields}


def test_launches_use_the_processors_requested_and_leave_one_of_the_limit() -> None:
    assert environment(CONTAINER)["EXITRAMP_THREADS"]["resourceFieldRef"]["resource"] == "requests.cpu"
    for container in (CONTAINER, gpu_container()):
        resources = container["resources"]
        assert int(resources["limits"]["cpu"]) == int(resources["requests"]["cpu"]) + 1


def gpu_container() -> dict[str, Any]:
    (container,) = read("overlays/gpu/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_the_gpu_overlay_asks_for_a_gpu_and_a_cuda_image() -> None:
    assert gpu_container()["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (image,) = read("overlays/gpu/kustomization.yaml")["images"]
    assert re.fullmatch(rf"{re.escape(VERSION)}-cu\d+", image["newTag"])


def test_prometheus_finds_the_service_and_is_let_in() -> None:
    monitor = read("components/monitoring/service-monitor.yaml")["spec"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in SERVICE["spec"]["ports"]}
    labels = read("base/kustomization.yaml")["labels"][0]["pairs"]
    assert monitor["selector"]["matchLabels"] == labels == SERVICE["spec"]["selector"]
    # The operator names the job after the Service; alerts and dashboard know it by that name.
    scraping = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert SERVICE["metadata"]["name"] in {job["job_name"] for job in scraping["scrape_configs"]}
    # Four scrapes in every window of the autoscalers, so that one that fails leaves a rate.
    queries = [trigger["metadata"]["query"] for trigger in KEDA["triggers"]]
    windows = [
        re.findall(r"\[(\w+)\]", query) for query in [*queries, *(rule["metricsQuery"] for rule in ADAPTER)]
    ]
    assert windows == [["1m"]] * 4 and endpoint["interval"] == "15s"


def test_grafana_gets_every_dashboard() -> None:
    kustomization = ROOT / "deploy/grafana/kustomization.yaml"
    dashboards = kustomization.parent.glob("dashboards/*.json")
    assert listed(kustomization) == {path.resolve() for path in dashboards}


def test_the_prometheus_rule_holds_the_rules_of_today() -> None:
    made = runpy.run_path(str(KUBERNETES / "rules.py"))["prometheus_rule"]()
    assert (KUBERNETES / "components/monitoring/prometheus-rule.yaml").read_text() == made
