"""Prometheus, its alerts and Grafana's dashboard parse, fit together and name metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import run, tool

from service.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "exitramp.json"
YAML_FILES = [*PROMETHEUS.glob("*.yml"), *DEPLOY.glob("grafana/**/*.yml")]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
    "info": ("_info",),
}


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


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_file_holds_a_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


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
