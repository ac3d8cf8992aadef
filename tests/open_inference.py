"""What tests of the Open Inference Protocol share: inputs as clients send them, and a store to serve."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
from conftest import small_manifest, small_net
from live import Server

from model_store.store import Store

ADMIN = {"X-Admin-Key": "open sesame"}
"""Of the administrator, for servers with ``settings_of``."""


def settings_of(root: Path, *models: str, **more: str) -> dict[str, str]:
    """Settings of a server for the artifacts below ``root``."""
    named = ", ".join(f'"{model}"' for model in models)
    digest = hashlib.sha256(ADMIN["X-Admin-Key"].encode()).hexdigest()
    common = {"EXECUTOR": "torch", "RECHECK_SHARE": "0", "ADMIN_KEY_SHA256": digest}
    return {**common, "MODEL_STORE": str(root), "MODELS": f"[{named}]", **more}


def publish(root: Path, version: int = 1, name: str = "small") -> Path:
    """A small model; the versions of a name differ in their weights."""
    return Store(root).publish(*small_manifest(small_net(version), name, version))


def client_of(server: Server) -> triton.InferenceServerClient:
    """Triton's client of ``server``."""
    return triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=60)


def pixels(images: np.ndarray, binary: bool = True, planes: bool = False) -> triton.InferInput:
    """Images, uint8 (B, 3, H, W), as the tensor ``image``; channels last, or first with ``planes``."""
    sent = images if planes else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    tensor = triton.InferInput("image", list(sent.shape), "UINT8")
    return tensor.set_data_from_numpy(sent, binary_data=binary)


def files(*contents: bytes, binary: bool = True) -> triton.InferInput:
    """Image files, or their base64, as the tensor ``image``."""
    tensor = triton.InferInput("image", [len(contents)], "BYTES")
    return tensor.set_data_from_numpy(np.array(contents, dtype=np.object_), binary_data=binary)


def requested(*names: str, binary: bool = True) -> list[triton.InferRequestedOutput]:
    """Outputs by name."""
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def parameters(result: triton.InferResult) -> dict[str, Any]:
    """Parameters of an answer."""
    found: dict[str, Any] = result.get_response()["parameters"]
    return found


def states(client: triton.InferenceServerClient) -> dict[str, str]:
    """State of each artifact in the store, by ``name@version``."""
    return {
        f"{entry['name']}@{entry['version']}": entry["state"] for entry in client.get_model_repository_index()
    }


def statistics_of(client: triton.InferenceServerClient, name: str = "", version: str = "") -> dict[str, Any]:
    """Statistics of one version of a model."""
    (statistics,) = client.get_inference_statistics(name, version)["model_stats"]
    found: dict[str, Any] = statistics
    return found


def exits_of(server: Server) -> list[int]:
    """FLOPs of the exits of the small model."""
    return [spec["flops"] for spec in server.client.get("/models/small").json()["exits"]]
