"""Artifacts from networks that others trained: torchvision's classifiers, and cascades of artifacts."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any
from urllib.error import URLError

import torch

from model_store import nets
from model_store.flops import StageFlops, count_stages
from model_store.hardware import hardware
from model_store.manifest import ExitSpec, Manifest, Provenance
from model_store.nets.staged import StagedNet
from model_store.nets.torchvision_nets import take_apart
from model_store.policy import Policy, PolicyEntry, PolicySegment, path_flops
from model_store.preprocess import InputSpec
from model_store.store import Artifact, encode_weights, weights_sha256
from model_store.training.data import Rows
from model_store.training.labelled import halves
from model_store.training.publish import OnProgress, calibrate_net
from model_store.training.scores import EagerRunner, collect_path

IMAGENET_TASK = "imagenet"
"""Task of torchvision's classifiers: 1,000 classes."""

RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""How a cascade takes its images: its members normalise by themselves."""


class ImportFailure(Exception):
    """A network cannot be imported; the message says why and what would help."""


@dataclass(frozen=True)
class Imported:
    """A network and all that its manifest will say of it, before name, version and policy.

    Attributes:
        network: Entry of the network registry.
        arguments: What builds it.
        net: With its weights.
        spec: What it takes.
        task: What it can stand in for.
        classes: In index order.
        accuracies: Of each exit, published or measured; 0 if nothing is known.
        origin: For the provenance.
    """

    network: str
    arguments: dict[str, Any]
    net: StagedNet
    spec: InputSpec
    task: str
    classes: tuple[str, ...]
    accuracies: tuple[float, ...]
    origin: dict[str, Any]

    @property
    def stages(self) -> tuple[StageFlops, ...]:
        """FLOPs of each stage."""
        return count_stages(self.net, self.spec.height, self.spec.width)


def from_torchvision(name: str, weights: str = "DEFAULT") -> Imported:
    """One of torchvision's classifiers, with its weights, transforms, classes and published accuracy.

    Args:
        name: Its name there, such as ``efficientnet_b0``.
        weights: ``DEFAULT``, another of its weights by name, or ``none`` for random ones.

    Raises:
        ImportFailure: No such classifier or weights, no connection, or it computes outside of convolutions
            and linear layers.
    """
    from model_store.torchvision_import import torchvision

    models = torchvision.models
    if name not in (known := models.list_models(module=models)):
        near = ", ".join(get_close_matches(name, known)) or "nothing of a similar name"
        raise ImportFailure(f"torchvision has no classifier {name!r}; it has {near}")
    choices = models.get_model_weights(name)
    try:
        chosen = choices["DEFAULT" if weights == "none" else weights]
    except KeyError as error:
        offered = ", ".join([*choices.__members__, "none"])
        raise ImportFailure(f"torchvision's {name} has no weights {weights!r}; it has {offered}") from error
    classes = tuple(chosen.meta["categories"])
    arguments = {"architecture": name, "num_classes": len(classes)}
    origin = {"import": f"torchvision:{name}", "weights": weights}
    accuracy = 0.0
    if weights == "none":
        model = models.get_model(name, weights=None, num_classes=len(classes))
    else:
        model = _downloaded(models, name, chosen)
        accuracy = next(iter(chosen.meta["_metrics"].values()))["acc@1"] / 100
        origin |= {"weights": str(chosen), "url": chosen.url}
    if getattr(model, "transform_input", False):
        raise ImportFailure(f"{name} normalises its input by itself, which an artifact has no words for")
    try:
        net = take_apart(model.eval())
    except ValueError as error:
        raise ImportFailure(str(error)) from error
    spec = _spec(chosen.transforms())
    return Imported("torchvision", arguments, net, spec, IMAGENET_TASK, classes, (accuracy,), origin)


def _downloaded(models: Any, name: str, chosen: Any) -> Any:
    """The classifier with its weights, whose hash torchvision checks."""
    try:
        return models.get_model(name, weights=chosen, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ImportFailure(
            f"{chosen.url} cannot be downloaded: {error}; --weights none makes the network without them"
        ) from error


def _spec(transforms: Any) -> InputSpec:
    """Torchvision's transforms for inference as we say them."""
    side = transforms.crop_size[0]
    return InputSpec(
        height=side,
        width=side,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
    )


def as_cascade(members: Sequence[Artifact]) -> Imported:
    """A cascade of artifacts of one task, in the order given; all their exits are its exits.

    Images enter at the size of the member that wants the most pixels.

    Raises:
        ImportFailure: Fewer than two members, or they differ in task or classes.
    """
    if len(members) < 2:
        raise ImportFailure("a cascade needs at least two artifacts")
    manifests = [member.manifest for member in members]
    if len({(manifest.name, manifest.version) for manifest in manifests}) < len(manifests):
        raise ImportFailure("a cascade asks no artifact twice")
    for other in manifests[1:]:
        if (other.task, other.classes) != (manifests[0].task, manifests[0].classes):
            raise ImportFailure(
                f"{other.name} is of task {other.task}, {manifests[0].name} of {manifests[0].task}; "
                "a cascade is of one task with the same classes"
            )
    arguments = {
        "members": [
            {
                "network": manifest.network,
                "arguments": dict(manifest.arguments),
                **manifest.input.model_dump(include={"height", "width", "mean", "std"}),
            }
            for manifest in manifests
        ]
    }
    net = nets.build("cascade", arguments)
    blocks = [block for member in members for block in member.net.blocks]
    heads = [head for member in members for head in member.net.heads]
    for carried, block in zip(net.blocks, blocks, strict=True):
        carried.block = block
    for carried, head in zip(net.heads, heads, strict=True):
        carried.head = head
    largest = max((manifest.input for manifest in manifests), key=lambda spec: spec.height * spec.width)
    spec = largest.model_copy(update=RAW)
    accuracies = tuple(exit_.accuracy for manifest in manifests for exit_ in manifest.exits)
    origin = {"import": "cascade:" + ",".join(f"{m.name}@{m.version}" for m in manifests)}
    first = manifests[0]
    return Imported("cascade", arguments, net.eval(), spec, first.task, first.classes, accuracies, origin)


def uncalibrated_policy(stages: Sequence[StageFlops], accuracies: Sequence[float]) -> Policy:
    """The policy of which nothing but each exit's accuracy is known: one exit for all images.

    An exit that costs more than another and is not better is left out.
    """
    segments: list[PolicySegment] = []
    best = -1.0
    for k, accuracy in enumerate(accuracies):
        if accuracy > best or not segments:
            best = accuracy
            (cost,) = path_flops(stages, [k])
            entry = PolicyEntry(mean_flops=cost, accuracy=accuracy, thresholds=(), shares=(1.0,))
            segments.append(PolicySegment(exits=(k + 1,), entries=(entry,)))
    return Policy(
        confidence="probability", default_flops=segments[-1].entries[0].mean_flops, segments=tuple(segments)
    )


def measure(imported: Imported, rows: Rows, report: OnProgress) -> tuple[Imported, Policy, dict[str, str]]:
    """The network with what its exits get right of ``rows``, and a policy calibrated on half of them.

    Returns:
        The network with its accuracies, the policy, and which rows were used for what.
    """
    net, spec, stages = imported.net, imported.spec, imported.stages
    if net.stages == 1:
        scores = collect_path(
            EagerRunner(net, spec.mean, spec.std), range(1), rows, on_rows=lambda i, n: report("images", i, n)
        )
        accuracies = tuple(scores.correct.mean(axis=1).tolist())
        policy, used = uncalibrated_policy(stages, accuracies), {"budget_check": rows.source}
    else:
        fit, judge = halves(rows)
        calibration, check = calibrate_net(net, spec, stages, fit, judge, report)
        accuracies, policy = tuple(check.correct.mean(axis=1).tolist()), calibration.policy
        used = {"calibration": fit.source, "budget_check": judge.source}
    return replace(imported, accuracies=accuracies), policy, used


def describe(
    imported: Imported, name: str, version: int, policy: Policy, command: str, rows: dict[str, str]
) -> tuple[Manifest, bytes]:
    """Manifest and encoded weights of an imported network, for ``Store.publish``."""
    weights = encode_weights(imported.net)
    provenance = Provenance(
        command=command,
        recipe=imported.origin,
        seed=0,
        hardware=hardware(),
        duration_s=0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries={"python": platform.python_version(), "torch": str(torch.__version__)},
        rows=rows,
    )
    manifest = Manifest(
        name=name,
        version=version,
        network=imported.network,
        arguments=imported.arguments,
        input=imported.spec,
        task=imported.task,
        classes=imported.classes,
        exits=tuple(
            ExitSpec(block_flops=stage.block, head_flops=stage.head, accuracy=accuracy)
            for stage, accuracy in zip(imported.stages, imported.accuracies, strict=True)
        ),
        policy=policy,
        provenance=provenance,
        weights_sha256=weights_sha256(weights),
    )
    return manifest, weights
