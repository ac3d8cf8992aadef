"""What CUDA graphs gain over eager torch, launch by launch, without the service around.

``python -m deploy.gpu.offline --out DIRECTORY`` writes ``offline.json`` and ``offline.md``. Where there is no
CUDA device it runs on the processor, with the eager stand-in for graphs: that shows that it works, no more.

A launch is what the worker waits for: the batch goes to the device, the span runs, the exit is read, and what
it says is on the host. What is compared takes turns, so that whatever else happens hits all alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from model_store.nets.staged import Features, Span
from model_store.store import EMBEDDED, Artifact, Store
from service.engine.cuda_device import EagerDevice, graph_device
from service.engine.cuda_executor import CudaExecutor
from service.engine.executors import Executor, TorchExecutor
from service.engine.loaded import LoadedModel

TARGET = 5.0
"""How many times eager torch in float32 the graphs are to be, for the whole network in batches of 64."""


@dataclass(frozen=True)
class Row:
    """One span at one batch size.

    Attributes:
        model: ``name@version``.
        span: As people see it; ``all`` is the whole network as one span.
        images: In the batch.
        milliseconds: Median of a launch, by executor.
        gain: Of graphs over eager torch in float32.
        images_per_s: Of graphs, one launch after the other.
        difference: Of the graphs' logits from float32's: norm of it over the norm.
        same_labels: Share of images with the same label from both; of noise, where labels differ sooner.
    """

    model: str
    span: str
    images: int
    milliseconds: dict[str, float]
    gain: float
    images_per_s: float
    difference: float
    same_labels: float


def executors_of(artifact: Artifact, place: torch.device, max_batch: int) -> dict[str, Executor]:
    """What is compared, by name; the reference first, the graphs last."""
    net, spec = artifact.net, artifact.manifest.input
    device = graph_device(place) if place.type == "cuda" else EagerDevice(place)
    return {
        "eager float32": TorchExecutor(net, spec, place),
        "eager bfloat16": CudaExecutor(net, spec, EagerDevice(place), max_batch),
        device.kind: CudaExecutor(net, spec, device, max_batch),
    }


def measure(artifact: Artifact, place: torch.device, sizes: Sequence[int], rounds: int) -> list[Row]:
    """Time the spans of the default policy's path, then the whole network, at each size.

    Args:
        artifact: The model.
        place: The device.
        sizes: Batch sizes.
        rounds: Launches of each, in turns, after two that are not counted.
    """
    manifest = artifact.manifest
    executors = executors_of(artifact, place, max(sizes))
    whole = Span(0, len(manifest.stages) - 1)
    path = LoadedModel(manifest, executors["eager float32"]).plan(None, None, True).spans()
    named = {str(span): span for span in path if span != whole} | {"all": whole}
    rows = []
    for images in sizes:
        for name, span in named.items():
            features = _features(executors["eager float32"], artifact, span, images)
            took = _times(executors, span, features, rounds)
            graphs, reference = list(took)[-1], next(iter(took))
            mine = executors[graphs].run(span, features)[1].cpu()
            theirs = executors[reference].run(span, features)[1].cpu()
            rows.append(
                Row(
                    f"{manifest.name}@{manifest.version}",
                    name,
                    images,
                    {one: round(seconds * 1e3, 4) for one, seconds in took.items()},
                    round(took[reference] / took[graphs], 2),
                    round(images / took[graphs]),
                    float((mine - theirs).norm() / theirs.norm()),
                    float((mine.argmax(dim=1) == theirs.argmax(dim=1)).float().mean()),
                )
            )
    return rows


def _features(reference: Executor, artifact: Artifact, span: Span, images: int) -> Features:
    """What comes into ``span``: noise, never zeros, which are faster to multiply."""
    spec, random = artifact.manifest.input, torch.Generator().manual_seed(images)
    pixels = torch.randint(256, (images, 3, spec.height, spec.width), dtype=torch.uint8, generator=random)
    if span.first == 0:
        return (pixels,)
    return tuple(x.clone() for x in reference.run(Span(0, span.first - 1), (pixels,))[0])


def _times(
    executors: Mapping[str, Executor], span: Span, features: Features, rounds: int
) -> dict[str, float]:
    """Median seconds of a launch of each."""
    seconds: dict[str, list[float]] = {name: [] for name in executors}
    for _ in range(rounds + 2):
        for name, executor in executors.items():
            started_s = time.perf_counter()
            logits = executor.run(span, features)[1]
            executor.read(logits, "probability", 1.0, False)  # comes back when it is on the host
            seconds[name].append(time.perf_counter() - started_s)
    return {name: median(took[2:]) for name, took in seconds.items()}


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    names = list(rows[0].milliseconds)
    head = ["model", "span", "images", *(f"{name}, ms" for name in names), "gain", "images/s"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        times = [f"{row.milliseconds[name]:.3f}" for name in names]
        lines.append(
            [row.model, row.span, str(row.images), *times, f"{row.gain:.1f}", f"{row.images_per_s:,}"]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def facts(place: torch.device) -> dict[str, object]:
    """What the numbers were measured with."""
    cuda = place.type == "cuda"
    return {
        "command": " ".join(sys.argv),
        "device": torch.cuda.get_device_name(place) if cuda else "processor",
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the report; 1 where a CUDA device misses the target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder of the report.")
    parser.add_argument("--store", type=Path, default=EMBEDDED)
    parser.add_argument("--models", nargs="+", default=["cifar10-fusion"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 8, 32, 64, 256])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--benchmark", action="store_true", help="Let cuDNN try all its kernels first.")
    chosen = parser.parse_args(arguments)
    torch.backends.cudnn.benchmark = chosen.benchmark
    place = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    artifacts = [Store(chosen.store).load(name, None) for name in chosen.models]
    rows = [row for artifact in artifacts for row in measure(artifact, place, chosen.sizes, chosen.rounds)]
    told = facts(place)
    gains = {row.model: row.gain for row in rows if row.span == "all" and row.images == 64}
    chosen.out.mkdir(parents=True, exist_ok=True)
    report = {**told, "target": TARGET, "gain_at_64": gains, "rows": [asdict(row) for row in rows]}
    (chosen.out / "offline.json").write_text(json.dumps(report, indent=1) + "\n")
    text = f"{told['device']}, torch {told['torch']}, medians of {chosen.rounds}\n\n{table(rows)}"
    (chosen.out / "offline.md").write_text(text)
    sys.stdout.write(text)
    missed = [model for model, gain in gains.items() if gain < TARGET]
    return 1 if missed and place.type == "cuda" else 0


if __name__ == "__main__":
    sys.exit(main())
