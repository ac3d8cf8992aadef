"""Both autoscalers ask for metrics that exist, and want the same."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from manifests import ADAPTER, HPA, KEDA
from programs import run, tool

from service.metrics import Metrics


def test_every_metric_that_scaling_asks_for_exists() -> None:
    families = {family.name: family.type for family in Metrics().registry.collect()}
    exported = {name + ("_total" if kind == "counter" else "") for name, kind in families.items()}
    queries = [trigger["metadata"]["query"] for trigger in KEDA["triggers"]]
    text = " ".join([*queries, *(rule["seriesQuery"] for rule in ADAPTER)])
    named = set(re.findall(r"\b(exitramp_\w+)\{", text))
    assert named == {"exitramp_in_flight", "exitramp_flops_total"}
    assert named <= exported


def test_the_autoscaler_asks_the_adapter_for_what_it_offers() -> None:
    asked = {metric["pods"]["metric"]["name"] for metric in HPA["metrics"]}
    assert asked == {rule["name"]["as"] for rule in ADAPTER}


def test_both_autoscalers_scale_alike() -> None:
    targets = [metric["pods"]["target"]["averageValue"] for metric in HPA["metrics"]]
    thresholds = [trigger["metadata"]["threshold"] for trigger in KEDA["triggers"]]
    assert [float(target.replace("G", "e9")) for target in targets] == list(map(float, thresholds))
    assert (HPA["minReplicas"], HPA["maxReplicas"]) == (KEDA["minReplicaCount"], KEDA["maxReplicaCount"])
    assert HPA["behavior"] == KEDA["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert HPA["scaleTargetRef"]["name"] == KEDA["scaleTargetRef"]["name"] == "exitramp"


def test_the_queries_of_both_autoscalers_say_what_two_pods_do(tmp_path: Path) -> None:
    """Pod one has 8 requests in flight and does 10 GFLOPs a second, pod two 24 and 5."""
    pods = {"one": ("8x8", "0+150e9x8"), "two": ("24x8", "0+75e9x8")}
    series = []
    for pod, (in_flight, flops) in pods.items():
        labels = f'namespace="exitramp",job="exitramp",pod="{pod}"'
        series.append({"series": f"exitramp_in_flight{{{labels}}}", "values": in_flight})
        for kind in ("executed", "charged"):
            name = f'exitramp_flops_total{{{labels},model="any",kind="{kind}"}}'
            series.append({"series": name, "values": flops})
    elsewhere = 'exitramp_in_flight{namespace="elsewhere",job="exitramp",pod="three"}'
    series.append({"series": elsewhere, "values": "99x8"})
    for_all = zip((32, 15e9), [trigger["metadata"]["query"] for trigger in KEDA["triggers"]], strict=True)
    checks = [{"expr": query, "exp_samples": [{"labels": "{}", "value": value}]} for value, query in for_all]
    for (one, two), rule in zip(((8, 24), (10e9, 5e9)), ADAPTER, strict=True):  # as the adapter fills them in
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
        query = query.replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        query = query.replace("<<.LabelMatchers>>", 'namespace="exitramp",pod=~"one|two"')
        samples = [
            {"labels": f'{{pod="{pod}"}}', "value": value}
            for pod, value in zip(pods, (one, two), strict=True)
        ]
        checks.append({"expr": query, "exp_samples": samples})
    for check in checks:
        check["eval_time"] = "2m"
    case = {"interval": "15s", "input_series": series, "promql_expr_test": checks}
    file = tmp_path / "queries_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": [case]}))
    run(tool("promtool"), "test", "rules", file)
