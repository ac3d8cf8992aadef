"""Every small network of the zoo: trained a few steps, published, served, answering with the right FLOPs."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, SPEC
from live import Server, serving
from PIL import Image
from torch.nn import functional

from model_store.flops import count_stages, direct_flops
from model_store.store import Store
from model_store.training.data import Rows
from model_store.training.imports import Imported, describe, uncalibrated_policy
from model_store.training.scores import EagerRunner, collect_path
from model_store.zoo import zoo

SHIP = Path(__file__).parents[1] / "images" / "ship.png"
NAMES = [name for name, entry in zoo().items() if entry.side == 32 and "budgeted" not in name]
STEPS = 3


def crops(count: int) -> torch.Tensor:
    """Real pixels to learn from: random windows of a photograph, uint8 (count, 3, 32, 32)."""
    photo = np.asarray(Image.open(SHIP).convert("RGB").resize((64, 64)))
    places = np.random.default_rng(0).integers(0, 33, (count, 2))
    return torch.from_numpy(np.stack([photo[y : y + 32, x : x + 32] for y, x in places])).permute(0, 3, 1, 2)


def trained(name: str) -> Imported:
    """A few steps of SGD: BatchNorm has seen images, and the classes differ."""
    torch.manual_seed(0)
    entry = zoo()[name]
    net = entry.build(32).train()
    mean, std = (torch.tensor(values)[:, None, None] for values in (SPEC.mean, SPEC.std))
    images, labels = (crops(32) / 255 - mean) / std, torch.arange(32) % 10
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.stack([functional.cross_entropy(logits, labels) for logits in net(images)]).sum().backward()
        optimizer.step()
    sides = {"side": 32} if "side" in entry.arguments else {}
    arguments = {**entry.arguments, **sides}
    accuracies = tuple(0.1 + 0.01 * k for k in range(net.stages))
    return Imported(entry.network, arguments, net.eval(), SPEC, name, CLASSES, accuracies, {"import": "test"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("zoo"))
    for name in NAMES:
        imported = trained(name)
        policy = uncalibrated_policy(imported.stages, imported.accuracies)
        store.publish(*describe(imported, name, 1, policy, "test", {}))
    return store


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Server]:
    models = "[" + ", ".join(f'"{name}"' for name in NAMES) + "]"
    with serving({"MODEL_STORE": str(store.root), "MODELS": models, "THREADS": "1"}) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_each_exit_answers_with_its_flops_and_what_eager_torch_says(
    server: Server, store: Store, name: str
) -> None:
    artifact = store.load(name)
    pixels = crops(1)
    rows = Rows(pixels, torch.tensor([8]), CLASSES, "ship")
    runner = EagerRunner(artifact.net, SPEC.mean, SPEC.std)
    expected = collect_path(runner, range(artifact.net.stages), rows).logits.softmax(-1)[:, 0]
    costs = direct_flops(count_stages(artifact.net, 32, 32))
    file = BytesIO()
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save(file, "PNG")
    for k, cost in enumerate(costs):
        headers = {"X-Model": name, "X-FLOP-Limit": str(cost)}
        answer = server.client.post("/classify", content=file.getvalue(), headers=headers).json()
        (prediction,) = answer["predictions"]
        assert (answer["model"], prediction["exit"], prediction["flops"]) == (name, k + 1, cost)
        for said in prediction["top"]:
            assert said["probability"] == pytest.approx(expected[k, said["index"]].item(), abs=0.02)
