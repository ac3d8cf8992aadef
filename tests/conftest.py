"""What several tests share: a small trained-looking network, its manifest, and images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image as PillowImage
from redis_process import RedisProcess, running_redis

from model_store import nets
from model_store.flops import count_stages
from model_store.manifest import ExitSpec, Manifest, Provenance
from model_store.policy import Policy, PolicyEntry, PolicySegment, path_flops
from model_store.preprocess import InputSpec
from model_store.store import Artifact, Store, encode_weights, weights_sha256

# The same examples everywhere: a failure can be repeated. No deadline: it would tell how busy the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARGUMENTS = {"num_classes": 10, "channels": 8, "growth": 4, "layers_per_block": [2, 1, 1, 1]}
SPEC = InputSpec(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize=32)


def small_net(seed: int = 0, num_classes: int = len(CLASSES)) -> nets.StagedNet:
    """A fusion network of four exits whose confidences spread over 0..1 on random images."""
    torch.manual_seed(seed)
    net = nets.build("fusion", {**ARGUMENTS, "num_classes": num_classes})
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(torch.randn(32, 3, 32, 32))
        for head in net.heads:
            head.linear.weight.mul_(60)  # type: ignore[union-attr, operator]
    return net.eval()


def small_policy(net: nets.StagedNet, exits: Sequence[int] = (1, 2, 4), points: int = 21) -> Policy:
    """Thresholds that rise from 0 to 1 with the mean; the means are made up."""
    stages = count_stages(net, 32, 32)
    costs = path_flops(stages, [k - 1 for k in exits])
    entries = []
    for i in range(points):
        way = i / (points - 1)
        shares = (1 - way, *(way / (len(exits) - 1),) * (len(exits) - 1))
        mean = float(np.dot(shares, costs))
        entries.append(
            PolicyEntry(
                mean_flops=mean, accuracy=0.5 + way / 4, thresholds=(way,) * (len(exits) - 1), shares=shares
            )
        )
    segment = PolicySegment(exits=tuple(exits), entries=tuple(entries))
    return Policy(confidence="probability", default_flops=float(np.mean(costs)), segments=(segment,))


def small_manifest(
    net: nets.StagedNet,
    name: str = "small",
    version: int = 1,
    task: str = "cifar10",
    classes: tuple[str, ...] = CLASSES,
) -> tuple[Manifest, bytes]:
    """A manifest for ``net``, whose logits are those of ``classes``, and its encoded weights."""
    weights = encode_weights(net)
    manifest = Manifest(
        name=name,
        version=version,
        network="fusion",
        arguments={**ARGUMENTS, "num_classes": len(classes)},
        input=SPEC,
        task=task,
        classes=classes,
        exits=tuple(
            ExitSpec(block_flops=stage.block, head_flops=stage.head, accuracy=0.5)
            for stage in count_stages(net, 32, 32)
        ),
        policy=small_policy(net),
        provenance=Provenance(
            command="test",
            recipe={},
            seed=0,
            hardware="test",
            duration_s=0,
            created="2026-01-01T00:00:00Z",
            libraries={},
            rows={},
        ),
        weights_sha256=weights_sha256(weights),
    )
    return manifest, weights


@dataclass(frozen=True)
class SmallStore:
    """A store with one small artifact in it."""

    root: Path
    artifact: Artifact


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    """A published small model, loaded back: half-precision rounding is in it."""
    root = tmp_path_factory.mktemp("store")
    manifest, weights = small_manifest(small_net())
    Store(root).publish(manifest, weights)
    return SmallStore(root, Store(root).load("small"))


@pytest.fixture(scope="session")
def png() -> Callable[[int], bytes]:
    """Makes the PNG of a random 32x32 image from a seed."""

    def make(seed: int) -> bytes:
        pixels = random_images(1, seed)[0].transpose(1, 2, 0)
        file = io.BytesIO()
        PillowImage.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return make


def random_images(count: int, seed: int = 0) -> np.ndarray:
    """Smooth random images, uint8 (count, 3, 32, 32)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    fine = generator.integers(0, 64, (count, 3, 32, 32), dtype=np.uint8)
    return (coarse.repeat(8, 2).repeat(8, 3) // 4 * 3 + fine).astype(np.uint8)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """One Redis for all tests, which use different accounts and leave it running."""
    with running_redis(tmp_path_factory.mktemp("redis")) as process:
        yield process
