"""What is deployed beside the code parses, is locked down and names metrics that exist; no Docker needed."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import Metrics

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "exitramp.json"
YAML_FILES = [ROOT / "docker-compose.yml", *PROMETHEUS.glob("*.yml"), *DEPLOY.glob("grafana/**/*.yml")]

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STAGES = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
    "info": ("_info",),
}


def instructions(stage: str, name: str) -> list[str]:
    return [line.split(maxsplit=1)[1].strip() for line in stage.splitlines() if line.startswith(f"{name} ")]


def exported_metrics() -> set[str]:
    families = Metrics().registry.collect()
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))} | {
        "up"
    }


def named_metrics(text: str) -> set[str]:
    """Names with our prefix, and whatever else is used like a metric: before a label matcher or a range."""
    quotes_removed = re.sub(r'"[^"]*"', '""', text)
    selectors = re.findall(r"\b([a-zA-Z_:][\w:]*)\s*[{\[]", quotes_removed)
    return {*re.findall(r"\bexitramp_\w+", quotes_removed), *selectors}


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def dashboard_queries() -> list[str]:
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "5m") for query in queries]


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def tool(name: str) -> str:
    """A program beside this Python or on PATH; a test that needs one that is missing skips and says so."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_file_holds_a_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_write_its_root_or_gain_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service and "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_limits_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"] and service["cpus"] and service["pids_limit"]
    assert "disable" not in service["healthcheck"]
    # Without a command of its own it is the image's, which for our service is the Dockerfile's.
    assert name == "exitramp" or service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ports_are_published_on_the_loopback_address_only(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


def test_everything_that_compose_mounts_exists_and_is_read_only() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    bound = [volume for volume in volumes if volume.startswith(".")]
    assert bound
    for volume in bound:
        source, _, mode = volume.split(":")
        assert (ROOT / source).exists() and mode == "ro"


def test_prometheus_scrapes_a_service_that_compose_starts() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target == "exitramp:8000" and "exitramp" in SERVICES


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "exitramp.yml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    scrape_interval = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval
    queried = {panel["datasource"]["uid"] for panel in panels() if "targets" in panel}
    assert queried == {source["uid"]}
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted


def test_the_dashboard_asks_its_five_questions_in_order() -> None:
    titles = [panel["title"] for panel in panels() if panel["type"] == "row"]
    words = ("healthy", "within budget", "leave", "batch", "degrading")
    assert len(titles) == len(words)
    assert all(word in title for word, title in zip(words, titles, strict=True))


def test_no_two_panels_of_the_dashboard_share_an_id_or_a_place() -> None:
    ids: set[int] = set()
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert panel["id"] not in ids and not covered & cells and place["x"] + place["w"] <= 24
        ids.add(panel["id"])
        cells |= covered


@pytest.mark.parametrize(
    "path", [DASHBOARD, PROMETHEUS / "alerts.yml", PROMETHEUS / "alerts_test.yml"], ids=lambda p: p.name
)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    if path == DASHBOARD:
        variables = json.loads(path.read_text())["templating"]["list"]
        texts = dashboard_queries() + [variable["query"]["query"] for variable in variables]
    elif path.name == "alerts.yml":
        texts = [rule["expr"] for rule in rules(path)]
    else:
        cases = yaml.safe_load(path.read_text())["tests"]
        texts = [series["series"] for case in cases for series in case["input_series"]]
    named = set().union(*map(named_metrics, texts))
    assert named
    assert named <= exported_metrics()


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    for rule in rules(PROMETHEUS / "alerts.yml"):
        fired = {bool(check["exp_alerts"]) for check in checks if check["alertname"] == rule["alert"]}
        assert fired == {True, False}, rule["alert"]


def test_every_alert_states_its_severity_and_what_to_do() -> None:
    for rule in rules(PROMETHEUS / "alerts.yml"):
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["for"] and rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_prometheus_accepts_its_configuration_and_the_alerts_pass_their_cases() -> None:
    promtool = tool("promtool")
    run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    run(promtool, "check", "rules", PROMETHEUS / "alerts.yml")
    run(promtool, "test", "rules", PROMETHEUS / "alerts_test.yml")


def test_every_query_of_the_dashboard_is_valid_promql(tmp_path: Path) -> None:
    queries = [query.replace("$model", "any") for query in dashboard_queries()]
    recorded = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    run(tool("promtool"), "check", "rules", file)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(tool("hadolint"), "--failure-threshold", "style", ROOT / "Dockerfile")


def test_both_images_run_as_a_numeric_user_that_is_not_root() -> None:
    for stage in STAGES[2:]:
        user = instructions(stage, "USER")[-1]
        assert all(int(number) >= 10_001 for number in user.split(":"))


def test_the_server_is_process_one_and_gets_the_signals() -> None:
    service = STAGES[-1]
    assert json.loads(instructions(service, "ENTRYPOINT")[-1]) == ["exitramp"]
    assert json.loads(instructions(service, "CMD")[-1]) == ["serve"]
    assert "EXITRAMP_HOST=0.0.0.0" in service


def test_the_image_is_healthy_when_readyz_says_so_and_needs_no_curl() -> None:
    command = json.loads(re.findall(r"^HEALTHCHECK .*? CMD (\[.*\])$", STAGES[-1], flags=re.MULTILINE)[0])
    assert command[:2] == ["python", "-c"]
    assert ast.parse(command[2]) and "'/readyz'" in command[2]


def test_the_final_stage_installs_nothing() -> None:
    commands = " ".join(instructions(STAGES[-1], "RUN"))
    assert not re.search(r"\b(apt-get|apk|pip|uv|gcc|make)\b", commands)


def test_pytorch_comes_for_the_cpu_unless_an_argument_says_otherwise() -> None:
    assert "ARG TORCH_BACKEND=cpu" in DOCKERFILE
    assert SERVICES["exitramp"]["build"]["args"]["TORCH_BACKEND"] == "${TORCH_BACKEND-cpu}"


def test_what_the_dockerfile_copies_exists_and_little_else_enters_the_build() -> None:
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore[0] == "*"
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied = [line.split()[:-1] for line in instructions(DOCKERFILE, "COPY") if "--from=" not in line]
    sources = {source.removeprefix("./") for line in copied for source in line}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_load_test_imports_nothing_of_ours() -> None:
    tree = ast.parse((ROOT / "loadtest" / "locustfile.py").read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in plain | named} & {"service", "model_store", "deploy", ""}
