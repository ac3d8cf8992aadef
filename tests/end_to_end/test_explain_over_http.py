"""``/explain`` over HTTP: the exit of the budget, the class of ``/classify``, clear refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, SPEC, SmallStore
from live import Server, serving
from PIL import Image

from model_store import nets
from model_store.manifest import Manifest
from model_store.store import Store
from model_store.training.imports import Imported, describe, uncalibrated_policy


def publish_vggnet5(store: Store) -> Manifest:
    """A network whose head is no pooled linear layer."""
    torch.manual_seed(0)
    net = nets.build("vggnet5", {}).eval()
    imported = Imported("vggnet5", {}, net, SPEC, "cifar10", CLASSES, (0.5,), {"import": "test"})
    manifest, weights = describe(
        imported, "vggnet5", 1, uncalibrated_policy(imported.stages, (0.5,)), "test", {}
    )
    store.publish(manifest, weights)
    return manifest


@pytest.fixture(scope="module")
def server(small_store: SmallStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("explain")
    (root / "small").symlink_to(small_store.root / "small")
    publish_vggnet5(Store(root))
    settings = {"MODEL_STORE": str(root), "MODELS": '["small", "vggnet5"]', "THREADS": "1"}
    with serving(settings) as running:
        yield running


def test_a_map_is_of_the_class_and_exit_that_classify_gives(
    server: Server, png: Callable[[int], bytes], tmp_path: Path
) -> None:
    exits = set()
    for seed in range(6):
        for limit in ("1G", str(server.client.get("/models/small").json()["exits"][0]["flops"])):
            headers = {"X-FLOP-Limit": limit, "X-Model": "small"}
            said = server.client.post("/classify", content=png(seed), headers=headers).json()
            drawn = server.client.post("/explain", content=png(seed), headers=headers)
            assert drawn.status_code == 200 and drawn.headers["content-type"] == "image/png"
            (prediction,) = said["predictions"]
            assert drawn.headers["x-exit"] == str(prediction["exit"])
            assert drawn.headers["x-flops"] == str(prediction["flops"])
            assert drawn.headers["x-class-index"] == str(prediction["index"])
            assert Image.open(BytesIO(drawn.content)).size == (224, 224)
            exits.add(prediction["exit"])
    assert exits == {1, 4}


def test_a_head_without_maps_is_refused(server: Server, png: Callable[[int], bytes]) -> None:
    refused = server.client.post("/explain", content=png(0), headers={"X-Model": "vggnet5"})
    assert refused.status_code == 422 and refused.json()["code"] == "not_explainable"


def test_several_images_and_broken_ones_are_refused(server: Server, png: Callable[[int], bytes]) -> None:
    files = [("image", ("a.png", png(0))), ("image", ("b.png", png(1)))]
    two = server.client.post("/explain", files=files)
    assert two.status_code == 400 and "exactly one" in two.json()["detail"]
    assert server.client.post("/explain", files=files[:1]).status_code == 200
    assert server.client.post("/explain", content=png(0)[:100]).json()["code"] == "undecodable_image"
    assert server.client.post("/explain", content=b"hello").status_code == 415
