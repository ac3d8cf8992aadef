"""The Kubernetes manifests, as tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"


def read(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((KUBERNETES / path).read_text()))


HPA = read("components/hpa/horizontal-pod-autoscaler.yaml")["spec"]
ADAPTER = read("components/hpa/prometheus-adapter.yaml")["rules"]["custom"]
KEDA = read("components/keda/scaled-object.yaml")["spec"]
