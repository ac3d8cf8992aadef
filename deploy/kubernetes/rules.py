"""Print the rules of deploy/prometheus as the PrometheusRule that the Prometheus operator reads.

    python deploy/kubernetes/rules.py > deploy/kubernetes/components/monitoring/prometheus-rule.yaml

kustomize cannot put one file's contents into another; a test sees to it that nobody forgets.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

PROMETHEUS = Path(__file__).parents[1] / "prometheus" / "prometheus.yml"


def prometheus_rule() -> str:
    """All groups of the rule files that Prometheus reads under compose, as YAML."""
    names = yaml.safe_load(PROMETHEUS.read_text())["rule_files"]
    files = [yaml.safe_load((PROMETHEUS.parent / name).read_text()) for name in names]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "exitramp"},
        "spec": {"groups": [group for file in files for group in file["groups"]]},
    }
    text = yaml.safe_dump(rule, sort_keys=False, width=110, allow_unicode=True)
    return f"# Made by deploy/kubernetes/rules.py from {', '.join(names)}; do not edit.\n{text}"


if __name__ == "__main__":
    sys.stdout.write(prometheus_rule())
