"""Models that come and go over the Open Inference Protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SmallStore, random_images, small_manifest, small_net
from live import serving
from open_inference import ADMIN, client_of, pixels, publish, settings_of, states, statistics_of
from tritonclient.utils import InferenceServerException

from model_store.store import Store


def test_models_are_loaded_and_unloaded_by_the_administrator_alone(tmp_path: Path) -> None:
    publish(tmp_path)
    with serving(settings_of(tmp_path, "small")) as server, client_of(server) as client:
        image = pixels(random_images(1))

        def version() -> str:
            answered: str = client.infer("small", [image]).get_response()["model_version"]
            return answered

        assert (states(client), version()) == ({"small@1": "READY"}, "1")
        publish(tmp_path, 2)
        assert states(client) == {"small@1": "READY", "small@2": "UNAVAILABLE"}
        for headers in (None, {"X-Admin-Key": "wrong"}):
            for ask in (client.load_model, client.unload_model):
                with pytest.raises(InferenceServerException) as caught:
                    ask("small", headers=headers)
                assert caught.value.status() == "401"
        assert version() == "1"
        client.load_model("small", headers=ADMIN)
        assert (states(client), version()) == ({"small@1": "UNAVAILABLE", "small@2": "READY"}, "2")
        assert statistics_of(client)["inference_count"] == 1, "a version counts for itself"
        client.load_model("small@1", headers=ADMIN)
        assert set(states(client).values()) == {"READY"} and version() == "2"
        assert client.infer("small", [image], model_version="1").get_response()["model_version"] == "1"
        assert client.get_model_metadata("small")["versions"] == ["1", "2"]
        policy = client.get_model_config("small")["version_policy"]
        assert policy == {"specific": {"versions": [1, 2]}}
        assert len(client.get_inference_statistics("small")["model_stats"]) == 2
        client.unload_model("small@1", headers=ADMIN)
        assert not client.is_model_ready("small", "1") and client.is_model_ready("small")
        ready = server.client.post("/v2/repository/index", json={"ready": True}).json()
        assert ready == [{"name": "small", "version": "2", "state": "READY", "reason": ""}]
        client.unload_model("small", headers=ADMIN)
        assert not client.is_server_ready() and not client.is_model_ready("small")
        with pytest.raises(InferenceServerException) as caught:
            client.infer("small", [image])
        assert caught.value.status() == "404"
        loaded = server.client.post(
            "/v2/repository/models/small/load", json={"parameters": {"version": "1"}}, headers=ADMIN
        )
        assert loaded.json() == {"name": "small", "version": "1", "load": True} and version() == "1"


def test_a_model_that_cannot_be_loaded_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path)
    with serving(settings_of(tmp_path, "small")) as server, client_of(server) as client:
        broken = publish(tmp_path, 2) / "model.safetensors"
        broken.write_bytes(broken.read_bytes()[:-1])
        other = small_manifest(small_net(1, 3), "other", 1, "cifar10", ("a", "b", "c"))
        Store(tmp_path).publish(*other)

        def refused(name: str, **told: Any) -> str:
            answer = server.client.post(
                f"/v2/repository/models/{name}/load", json={"parameters": told}, headers=ADMIN
            )
            assert answer.status_code == 400 and str(tmp_path) not in answer.text, answer.text
            reason: str = answer.json()["error"]
            return reason

        assert "SHA-256" in refused("small")
        assert "SHA-256" in refused("small", version=2)
        assert "no artifact small@9" in refused("small@9")
        assert "no artifact nonesuch" in refused("nonesuch")
        assert "different classes" in refused("other")
        for name, told in (
            ("small@1", {"version": 2}),
            ("small", {"version": "latest"}),
            ("small", {"version": 0}),
            ("small@x", {}),
            ("SMALL", {}),
        ):
            assert "is not name or name@version" in refused(name, **told)
        assert "config" in refused("small", config="{}")
        assert "file:1/model" in refused("small", **{"file:1/model": "AA=="})
        for content in (b"{", b"[]", b'{"parameters": 3}'):
            answer = server.client.post("/v2/repository/models/small/load", content=content, headers=ADMIN)
            assert answer.status_code == 400 and set(answer.json()) == {"error", "code"}
        (first, second) = [entry for entry in client.get_model_repository_index() if entry["name"] == "small"]
        assert (first["state"], first["reason"]) == ("READY", "")
        assert second["state"] == "UNAVAILABLE" and "SHA-256" in second["reason"]
        assert str(tmp_path) not in second["reason"]
        assert client.infer("small", [pixels(random_images(1))]).get_response()["model_version"] == "1"
        gone = server.client.post("/v2/repository/models/other/unload", headers=ADMIN)
        assert (gone.status_code, gone.json()["code"]) == (404, "unknown_model")


def test_without_an_administrators_key_nobody_loads(small_store: SmallStore) -> None:
    settings = {"MODEL_STORE": str(small_store.root), "MODELS": '["small"]', "EXECUTOR": "torch"}
    with serving(settings) as server, client_of(server) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("small", headers=ADMIN)
        assert caught.value.status() == "403" and "EXITRAMP_ADMIN_KEY_SHA256" in caught.value.message()
        assert states(client) == {"small@1": "READY"}


def test_the_models_of_a_task_answer_under_its_name(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, name="other")
    with serving(settings_of(tmp_path, "small", "other")) as server, client_of(server) as client:
        described = client.get_model_metadata("cifar10")
        assert (described["name"], described["versions"]) == ("cifar10", [])
        told = client.get_model_config("cifar10")["parameters"]
        assert json.loads(told["models"]["string_value"]) == ["small@1", "other@1"]
        names = {entry["name"] for entry in client.get_inference_statistics("cifar10")["model_stats"]}
        assert names == {"small", "other"}
        for name in ("small", "other"):
            answer = client.infer(name, [pixels(random_images(1))], model_version="1")
            assert answer.get_response()["model_name"] == name
        answered = client.infer("cifar10", [pixels(random_images(1))]).get_response()
        assert (answered["model_name"], answered["model_version"]) in (("small", "1"), ("other", "1"))


def test_nobody_sends_much_to_the_repository(tmp_path: Path) -> None:
    publish(tmp_path)
    with serving(settings_of(tmp_path, "small")) as server:
        path = "/v2/repository/index"
        assert server.client.post(path, content=b"{}" + b" " * 4094).status_code == 200
        refused = server.client.post(path, content=b"{}" + b" " * 4095)
        assert refused.status_code == 413 and "4096 bytes" in refused.json()["error"]
