"""Print deploy/prometheus/alerts.yml as the PrometheusRule that the Prometheus operator reads.

    python deploy/kubernetes/rules.py > deploy/kubernetes/components/monitoring/prometheus-rule.yaml

kustomize cannot put one file's contents into another's; a test sees to it that both are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ALERTS = Path(__file__).parents[1] / "prometheus" / "alerts.yml"


def prometheus_rule() -> str:
    """The rule as YAML, beginning with where it comes from."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "exitramp"},
        "spec": yaml.safe_load(ALERTS.read_text()),
    }
    return "# Made from deploy/prometheus/alerts.yml by deploy/kubernetes/rules.py; do not edit.\n" + (
        yaml.safe_dump(rule, sort_keys=False, width=110, allow_unicode=True)
    )


if __name__ == "__main__":
    sys.stdout.write(prometheus_rule())
