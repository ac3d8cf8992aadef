"""The recipes by name; those that end in ``-full`` or ``-teacher`` are for a GPU, the others for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_store.training.recipe import Recipe

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)

_CIFAR10: dict[str, Any] = {"task": "cifar10", "mean": CIFAR10_MEAN, "std": CIFAR10_STD}
_CIFAR100: dict[str, Any] = {"task": "cifar100", "mean": CIFAR100_MEAN, "std": CIFAR100_STD}

_CPU: dict[str, Any] = {"warmup_epochs": 1, "ema_decay": 0.0}
"""What fits into hours on two cores. The last weights were better than averages over 100 or 500 steps."""

_FULL: dict[str, Any] = {"epochs": 200, "batch_size": 256, "warmup_epochs": 5, "mix": 0.5, "ema_decay": 0.999}
"""What a GPU affords. 200 epochs are enough for mixing to pay."""

_TEACHER: dict[str, Any] = {
    "network": "wide_resnet",
    "optimizer": "sgd",  # half of its convolutions have no BatchNorm behind them, which Muon counts on
    "learning_rate": 0.1,
    "clip_norm": 5.0,
    "epochs": 100,
    "batch_size": 256,
    "warmup_epochs": 5,
    "mix": 0.5,
    "ema_decay": 0.999,
}


_FROM_IMAGENET: dict[str, Any] = {"start": "imagenet", "epochs": 3, "learning_rate": 0.02}


def _staged(network: str, classes: int, task: Mapping[str, Any], **rest: Any) -> Recipe:
    arguments = {"num_classes": classes, "activation": "relu", **rest.pop("arguments", {})}
    return Recipe(network=network, arguments=arguments, **task, **rest)


def _full(classes: int, task: Mapping[str, Any]) -> Mapping[str, Recipe]:
    """The full recipe, its control, and the teacher of both, for a GPU."""
    name = task["task"]
    taught = {"teacher": f"{name}-teacher", "teacher_weight": 0.5}
    wide = {"num_classes": classes, "depth": 16, "width": 8}
    return {
        f"{name}-teacher": Recipe(arguments=wide, **task, **_TEACHER),
        f"{name}-fusion-full": _staged("fusion", classes, task, artifact=f"{name}-fusion", **taught, **_FULL),
        f"{name}-msdnet-full": _staged("msdnet", classes, task, artifact=f"{name}-msdnet", **taught, **_FULL),
    }


def _taught(
    classes: int, task: Mapping[str, Any], teacher: str, start: str, epochs: int, rate: float, **rest: Any
) -> Recipe:
    """What two cores afford in an hour or two: go on from an embedded version, which teaches too.

    At a low Muon ``rate``: 8 epochs from 0.02 led nowhere (-0.1 ± 0.5 points at exit 7 of CIFAR-100, 5,000
    held-out rows), 7 epochs from 0.007 to +1.2 ± 0.4; on CIFAR-10 22 epochs from 0.01 to +1.6 ± 0.3.
    """
    taught = {"teacher": teacher, "teacher_weight": 0.7, "teacher_once": True}
    taught["teacher_with_start"] = teacher != start
    rates = {"learning_rate": 0.02, "muon_rate": rate}
    return _staged("fusion", classes, task, start=start, epochs=epochs, **taught, **rates, **_CPU, **rest)


def _cpu_teacher(classes: int, side: int, task: Mapping[str, Any], **rest: Any) -> Recipe:
    """A teacher that two cores afford: ImageNet weights, all but the first blocks fine-tuned."""
    return Recipe(
        network="efficientnet_lite0",
        arguments={"num_classes": classes, "side": side},
        frozen=tuple(f"blocks.0.layers.{number}." for number in range(4)),
        optimizer="sgd",
        weight_decay=1e-4,
        clip_norm=5.0,
        batch_size=64,
        warmup_epochs=0.1,
        ema_decay=0.0,
        **task,
        **rest,
    )


def _pupil(network: str, **rest: Any) -> Recipe:
    """A network with one exit for the CIFAR-10 family, taught from nothing."""
    taught = {"teacher": "cifar10-teacher-128px", "teacher_weight": 0.7, "teacher_once": True}
    arguments = {"num_classes": 10, "small_input": True, **rest.pop("arguments")}
    return Recipe(network=network, arguments=arguments, **_CIFAR10, **taught, **_CPU, **rest)


def _transfer(name: str, network: str, first: int) -> Mapping[str, Recipe]:
    """Pre-training on CIFAR-100, then on CIFAR-10 the head alone, then all but the ``first`` parts.

    Source: "EfficientNet: A faster and effective image feature descriptor" (d'Hauteville et al.), which
    freezes the first 100 Keras layers for 10 epochs more; here it is the stages up to 40 and 32 channels.
    """
    small, task = {"small_input": True}, f"cifar10-{name}"
    rest: dict[str, Any] = {"network": network, "ema_decay": 0.0}
    parts = tuple(f"blocks.0.layers.features.{number}." for number in range(first))
    ten = {"arguments": {"num_classes": 10, **small}, **_CIFAR10, **rest}
    return {
        f"cifar100-{name}": Recipe(
            arguments={"num_classes": 100, **small}, epochs=2, warmup_epochs=0.5, **_CIFAR100, **rest
        ),
        f"{task}-head": Recipe(
            start=f"cifar100-{name}", frozen=("blocks.",), epochs=1, warmup_epochs=0.1, **ten
        ),
        task: Recipe(
            start=f"{task}-head",
            frozen=parts,
            epochs=1,
            warmup_epochs=0.1,
            learning_rate=0.02,
            muon_rate=0.02,
            **ten,
        ),
    }


_FAST: dict[str, Any] = {
    "lean_stem": True,
    "layers_per_block": (4, 2, 2, 2),
    "interval": 6,
    "finest_layers": 4,
}
"""The fusion network made for time: all else equal, so that it can start from the whole one's weights."""


_RESNET18: dict[str, Any] = {"epochs": 5, "l1": 1e-5}
"""Half an hour on a core with half of the channels; all of them have four times the FLOPs."""


RECIPES: Mapping[str, Recipe] = {
    "cifar10-fusion": _taught(
        10, _CIFAR10, "cifar10-teacher-128px", "cifar10-fusion@3", epochs=22, rate=0.01
    ),
    "cifar100-fusion": _taught(
        100, _CIFAR100, "cifar100-teacher-cpu", "cifar100-fusion@3", epochs=7, rate=0.007
    ),
    # Taught by the network that it starts from: what one without a better teacher can do.
    "cifar10-fusion-fast": _taught(
        10, _CIFAR10, "cifar10-fusion@3", "cifar10-fusion@3", epochs=22, rate=0.01, arguments=_FAST
    ),
    # The same for all and from nothing, to compare them.
    "cifar10-fusion-control": _staged("fusion", 10, _CIFAR10, epochs=6, small_epochs=4, small_px=24, **_CPU),
    "cifar10-fusion-fast-control": _staged(
        "fusion", 10, _CIFAR10, epochs=6, small_epochs=4, small_px=24, arguments=_FAST, **_CPU
    ),
    "cifar10-msdnet-control": _staged("msdnet", 10, _CIFAR10, epochs=6, small_epochs=4, small_px=24, **_CPU),
    "cifar10-teacher-cpu": _cpu_teacher(10, 96, _CIFAR10, **_FROM_IMAGENET),
    "cifar100-teacher-cpu": _cpu_teacher(100, 96, _CIFAR100, **_FROM_IMAGENET),
    "cifar10-teacher-128px": _cpu_teacher(
        10, 128, _CIFAR10, start="cifar10-teacher-cpu", epochs=2, learning_rate=0.01
    ),
    # Table I of "SE-Pruned ResNet-18": what `exitramp prune` starts from.
    "cifar10-resnet18": _pupil("resnet", arguments={"width": 0.5}, **_RESNET18),
    "cifar10-se-resnet18": _pupil(
        "resnet", arguments={"width": 0.5, "squeeze_excitation": True}, **_RESNET18
    ),
    "cifar10-shufflenet": _pupil("torchvision", arguments={"architecture": "shufflenet_v2_x0_5"}, epochs=10),
    **_transfer("efficientnet-b0", "efficientnet", first=4),
    **_transfer("mobilenet-v2", "mobilenet_v2", first=7),
    **_full(10, _CIFAR10),
    **_full(100, _CIFAR100),
}
"""By name. Those that end in ``-full`` or ``-teacher`` are for a GPU; the others for a CPU."""
