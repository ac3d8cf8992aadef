"""Policies as versioned objects over HTTP: for the holder of the administrator's key, and nobody else."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator

import pytest
from conftest import SmallStore
from live import Server, serving

from model_store.policy import Policy

KEY = {"X-Admin-Key": "open sesame"}


@pytest.fixture(scope="module")
def server(small_store: SmallStore) -> Iterator[Server]:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    settings["ADMIN_KEY_SHA256"] = hashlib.sha256(KEY["X-Admin-Key"].encode()).hexdigest()
    with serving(settings) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "policies"), ("POST", "policies/rollback"), ("PUT", "shadow"), ("DELETE", "shadow")],
)
def test_who_has_no_key_is_told_so_before_the_body_comes(server: Server, method: str, path: str) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 4) as client:
        client.sendall(
            f"{method} /admin/models/small/{path} HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n[".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 401")


def cheaper(policy: Policy, share: float) -> Policy:
    return Policy.model_validate({**policy.model_dump(), "default_flops": policy.default_flops * share})


def test_another_policy_answers_at_once_and_the_old_one_can_come_back(
    server: Server, small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    own = small_store.artifact.manifest.policy
    other = cheaper(own, 0.9)

    def answered_by() -> str:
        policy: str = server.client.post("/classify", content=png(0)).json()["policy"]
        return policy

    assert answered_by() == own.id
    path = "/admin/models/small/policies"
    body = server.client.post(path, json=other.model_dump(mode="json"), headers=KEY).json()
    assert [(entry["policy"], entry["in_force"]) for entry in body["revisions"]] == [
        (own.id, False),
        (other.id, True),
    ]
    assert answered_by() == other.id == server.client.get("/models/small").json()["policy"]
    assert server.client.post(f"{path}/rollback", headers=KEY).json()["revisions"][0]["in_force"]
    assert answered_by() == own.id
    untyped = server.client.post(path, content=other.model_dump_json(), headers=KEY)
    assert (untyped.status_code, untyped.json()["code"]) == (400, "invalid_request")
    assert "Content-Type: application/json" in untyped.json()["detail"]
    assert "admin.py" not in untyped.text
    again = server.client.post(f"{path}/rollback", json={"revision": 9}, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (400, "invalid_request")


def test_a_policy_on_trial_reports_how_it_would_have_answered(
    server: Server, small_store: SmallStore, png: Callable[[int], bytes]
) -> None:
    own = small_store.artifact.manifest.policy
    body = {"policy": cheaper(own, 0.8).model_dump(mode="json")}
    begun = server.client.put("/admin/models/small/shadow", json=body, headers=KEY)
    assert begun.status_code == 200 and begun.json()["shadow"]["images"] == 0
    spent = 0
    for seed in range(20):
        answer = server.client.post("/classify", content=png(seed)).json()
        assert answer["policy"] == own.id
        spent += answer["flops"]
    shadow = server.client.get("/admin/models/small/policies", headers=KEY).json()["shadow"]
    for _ in range(100):
        if shadow["images"] == 20:
            break
        shadow = server.client.get("/admin/models/small/policies", headers=KEY).json()["shadow"]
    assert shadow["images"] == 20 and shadow["live_mean_flops"] == pytest.approx(spent / 20)
    assert shadow["mean_flops"] < shadow["live_mean_flops"] and 0 < shadow["agreement"] <= 1
    assert server.client.delete("/admin/models/small/shadow", headers=KEY).json()["shadow"] is None


def test_only_the_administrators_key_opens(server: Server) -> None:
    path = "/admin/models/small/policies"
    assert server.client.get(path).status_code == 401
    assert server.client.get(path, headers={"X-Admin-Key": "wrong"}).json()["code"] == "unauthorized"
    assert server.client.get("/admin/models/none/policies", headers=KEY).json()["code"] == "unknown_model"


def test_without_a_configured_key_administration_is_off(small_store: SmallStore) -> None:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving(settings) as running:
        answer = running.client.get("/admin/models/small/policies", headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
