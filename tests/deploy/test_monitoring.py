"""Prometheus, its rules and Grafana's dashboard parse, fit together and name metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards import (
    DASHBOARD,
    PROMETHEUS,
    ROOT,
    RULE_FILES,
    alerts,
    all_rules,
    dashboard,
    operands,
    queries,
    rules,
)
from programs import run, tool

from service import errors
from service.app import create_app
from service.metrics import LATENCY_S, REASONS, Metrics
from service.settings import Settings

DEPLOY = ROOT / "deploy"
TEST_FILES = sorted(PROMETHEUS.glob("*_test.yml"))
YAML_FILES = [*PROMETHEUS.glob("*.yml"), *DEPLOY.glob("grafana/**/*.yml")]
RUNBOOK = (PROMETHEUS / "README.md").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
    "info": ("_info",),
}

FROM_PROMETHEUS = {"up", "ALERTS"}


def exported_metrics() -> set[str]:
    families = Metrics().registry.collect()
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))}


def known_metrics() -> set[str]:
    recorded = {rule["record"] for rule in all_rules() if "record" in rule}
    return exported_metrics() | recorded | FROM_PROMETHEUS


def named_metrics(text: str) -> set[str]:
    """Names with our prefix, and whatever else is used like a metric: before a label matcher or a range."""
    quotes_removed = re.sub(r'"[^"]*"', '""', text)
    selectors = re.findall(r"\b([a-zA-Z_:][\w:]*)\s*[{\[]", quotes_removed)
    return {*re.findall(r"\bexitramp[_:][\w:]+", quotes_removed), *selectors}


def cases() -> list[dict[str, Any]]:
    return [case for path in TEST_FILES for case in yaml.safe_load(path.read_text())["tests"]]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_file_holds_a_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_prometheus_scrapes_a_service_that_compose_starts_and_reads_all_rules() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target == "exitramp:8000" and "exitramp" in SERVICES
    others = {"prometheus.yml", "prometheus-local.yml", *(path.name for path in TEST_FILES)}
    assert {path.name for path in RULE_FILES} == {path.name for path in PROMETHEUS.glob("*.yml")} - others


def test_prometheus_without_containers_differs_in_the_target_alone() -> None:
    file = PROMETHEUS / "prometheus-local.yml"
    local, composed = (yaml.safe_load(path.read_text()) for path in (file, PROMETHEUS / "prometheus.yml"))
    fields = Settings.model_fields
    (job,) = composed["scrape_configs"]
    job["static_configs"][0]["targets"] = [f"{fields['host'].default}:{fields['port'].default}"]
    assert local == composed
    run(tool("promtool"), "check", "config", file)


def test_the_printed_prometheus_runs_from_the_root_and_leaves_nothing_there() -> None:
    (command,) = re.findall(
        r"^prometheus --config\.file=(\S+) .*", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert ROOT / command == PROMETHEUS / "prometheus-local.yml"
    (storage,) = re.findall(r"--storage\.tsdb\.path=(\S+)", (ROOT / "README.md").read_text())
    assert Path(storage).is_absolute()


@pytest.mark.parametrize("path", [DASHBOARD, *RULE_FILES, *TEST_FILES], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    if path == DASHBOARD:
        variables, annotations = dashboard()["templating"]["list"], dashboard()["annotations"]["list"]
        texts = [*queries().values(), *(variable["query"]["query"] for variable in variables)]
        texts += [annotation["expr"] for annotation in annotations]
    elif path in RULE_FILES:
        texts = [rule["expr"] for rule in rules(path)]
    else:
        found = yaml.safe_load(path.read_text())["tests"]
        texts = [series["series"] for case in found for series in case["input_series"]]
    named = set().union(*map(named_metrics, texts))
    assert named
    assert named <= known_metrics()


def test_every_metric_of_the_service_is_explained() -> None:
    families = [family for family in Metrics().registry.collect() if family.name.startswith("exitramp_")]
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert len(names) > 20
    assert names == set(re.findall(r"^\| `(exitramp_\w+)`", RUNBOOK, re.MULTILINE))


def test_every_bucket_that_is_asked_for_exists_and_one_is_the_latency_objective() -> None:
    bounds = {float(bound) for rule in all_rules() for bound in re.findall(r'le="([^"]+)"', rule["expr"])}
    assert bounds == {Settings.model_fields["latency_objective_s"].default}
    assert bounds <= set(LATENCY_S)


def test_the_objectives_are_about_the_routes_that_classify() -> None:
    paths = set(create_app(Settings()).openapi()["paths"])
    chosen = {text for rule in all_rules() for text in re.findall(r'route=~"([^"]+)"', rule["expr"])}
    infer = {"/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"}
    matched = {text: {path for path in paths if re.fullmatch(text, path)} for text in chosen}
    assert matched == {
        "/classify.*|/explain|/v2/.*/infer": {"/classify", "/classify/stream", "/explain", *infer},
        "/classify|/v2/.*/infer": {"/classify", *infer},
    }


def test_every_reason_of_a_refusal_is_counted_from_zero_on() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "status")]
    assert set(REASONS) == {kind.code for kind in kinds if kind.status in (401, 429, 503)}


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    checks = [check for case in cases() for check in case["alert_rule_test"]]
    for alert in alerts():
        fired = {bool(check["exp_alerts"]) for check in checks if check["alertname"] == alert["alert"]}
        assert fired == {True, False}, alert["alert"]


def test_every_alert_states_its_severity_what_to_do_and_where_more_is_said() -> None:
    headings = re.findall(r"^### (\w+)", RUNBOOK, re.MULTILINE)
    assert sorted(headings) == sorted(alert["alert"] for alert in alerts())
    for alert in alerts():
        notes = alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["for"] and notes["summary"] and notes["description"]
        assert notes["runbook"] == f"deploy/prometheus/README.md#{alert['alert'].lower()}"


def test_prometheus_accepts_its_configuration() -> None:
    run(tool("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.name)
def test_the_alerts_fire_where_they_should_and_nowhere_else(path: Path) -> None:
    run(tool("promtool"), "test", "rules", path)


IDLE = (
    'exitramp_requests_total{route="/classify", code="200"}',
    'exitramp_requests_total{route="/classify", code="504"}',
    'exitramp_rejected_total{reason="overloaded"}',
    *(f'exitramp_{name}{{model="any"}}' for name in ("budget_flops_total", "degraded_total")),
    *(f'exitramp_flops_total{{model="any", kind="{kind}"}}' for kind in ("charged", "executed")),
    'exitramp_images_total{model="any", exit="1"}',
    *(f'exitramp_batch_size_{name}{{model="any", stage="1"}}' for name in ("sum", "count")),
)
"""Series of a service that nobody asks anything."""


def test_without_traffic_no_share_is_a_number_or_nan(tmp_path: Path) -> None:
    """0/0 would be ``nan %`` in a panel of bars; the same with traffic shows that the names are right."""
    compared = [operand for rule in alerts() for operand in operands(rule["expr"])]
    asked = [text for text in (*queries().values(), *compared) if re.search(r"/ (on \(\)|\(?sum)", text)]
    asked = [text for text in asked if "rechecks" not in text]
    assert len(asked) == 13
    silent = [{"expr": text, "eval_time": "20m", "exp_samples": []} for text in asked]
    busy = [{"expr": f"count(({text}) >= 0) > bool 0", "eval_time": "20m"} for text in asked]
    busy = [check | {"exp_samples": [{"labels": "{}", "value": 1}]} for check in busy]
    cases = [
        {"interval": "15s", "input_series": [{"series": name, "values": values} for name in IDLE]} | checks
        for values, checks in (("0x90", {"promql_expr_test": silent}), ("0+9x90", {"promql_expr_test": busy}))
    ]
    file = tmp_path / "idle_test.yml"
    file.write_text(yaml.safe_dump({"tests": cases}))
    run(tool("promtool"), "test", "rules", file)


def test_an_alert_is_taken_apart_at_what_compares_and_combines() -> None:
    assert operands('a{b=~"x > 1 and (y"} > 14.4 * 0.001\n and on (model) f(c[5m] > 0) unless d') == [
        'a{b=~"x > 1 and (y"}',
        "14.4 * 0.001",
        "f(c[5m] > 0)",
        "d",
    ]
    assert operands('up{job="a"} == 0 or absent(up{job="a"})') == ['up{job="a"}', "0", 'up{job="a"}']
