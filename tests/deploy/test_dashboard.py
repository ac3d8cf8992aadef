"""The dashboard answers its questions, and every one of its queries can be asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from dashboards import (
    PROMETHEUS,
    ROOT,
    alerts,
    dashboard,
    panels,
    queries,
)
from programs import run, tool

from service.app import create_app
from service.settings import Settings

DEPLOY = ROOT / "deploy"


SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "exitramp.yml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    scrape_interval = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval
    lists = (panels(), dashboard()["templating"]["list"], dashboard()["annotations"]["list"])
    assert {asking["datasource"]["uid"] for asking_list in lists for asking in asking_list} == {source["uid"]}
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted


def test_the_dashboard_asks_its_seven_questions_in_order() -> None:
    titles = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    words = ("healthy", "within budget", "leave", "batch", "degrading", "drift", "machine")
    assert len(titles) == len(words)
    assert all(word in title for word, title in zip(words, titles, strict=True))


def test_no_two_panels_of_the_dashboard_share_an_id_or_a_place() -> None:
    ids: set[int] = set()
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert panel["id"] not in ids and not covered & cells and place["x"] + place["w"] <= 24
        ids.add(panel["id"])
        cells |= covered


def test_every_panel_says_what_to_look_at_has_a_unit_and_names_its_lines() -> None:
    for panel in panels():
        assert len(panel["description"]) > 20, panel["title"]
        if panel["type"] in ("timeseries", "stat", "bargauge"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_alert_is_named_where_the_dashboard_shows_what_it_watches() -> None:
    told = " ".join(panel["description"] for panel in panels())
    for alert in alerts():
        base = re.sub("(Fast|Slowly)$", "", alert["alert"])
        assert re.search(rf"\b{base}\b", told), alert["alert"]
    named = set(re.findall(r"\bExitramp\w+", told))
    assert named <= {alert["alert"] for alert in alerts()}


def test_the_dashboard_leaves_probes_out_and_nothing_else() -> None:
    (left_out,) = {text for query in queries().values() for text in re.findall(r'route!~"([^"]+)"', query)}
    paths = set(create_app(Settings()).openapi()["paths"])
    probes = {"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
    probes |= {path for path in paths if path.startswith("/v2/models/") and path.endswith("/ready")}
    assert {path for path in paths if re.fullmatch(left_out, path)} == probes


def test_every_query_of_the_dashboard_is_valid_promql(tmp_path: Path) -> None:
    recorded = [
        {"record": f"query_{number}", "expr": query} for number, query in enumerate(queries().values())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    run(tool("promtool"), "check", "rules", file)
