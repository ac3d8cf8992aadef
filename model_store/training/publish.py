"""From a finished training run to an artifact: held-out scores, calibration, manifest."""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from model_store.flops import StageFlops, count_stages
from model_store.hardware import hardware
from model_store.manifest import ExitSpec, Manifest, Provenance
from model_store.nets.staged import StagedNet
from model_store.preprocess import InputSpec
from model_store.store import encode_weights, weights_sha256
from model_store.training.calibrate import Calibration, calibrate
from model_store.training.data import Rows, Split
from model_store.training.recipe import Recipe
from model_store.training.scores import EagerRunner, Scores, collect_path
from model_store.training.train import Run

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def calibrate_net(
    net: StagedNet,
    spec: InputSpec,
    stages: tuple[StageFlops, ...],
    calibration_rows: Rows,
    check_rows: Rows,
    report: OnProgress,
) -> tuple[Calibration, Scores]:
    """Score held-out rows with the reference executor and calibrate a policy on them.

    Returns:
        The calibration, and the scores on the budget-check rows.
    """
    runner = EagerRunner(net, spec.mean, spec.std)
    every = range(net.stages)
    fit = collect_path(runner, every, calibration_rows, on_rows=lambda i, n: report("calibration rows", i, n))
    check = collect_path(runner, every, check_rows, on_rows=lambda i, n: report("budget-check rows", i, n))
    return calibrate(fit, check, stages, on_step=lambda i, n: report("policy", i, n)), check


def make_artifact(
    name: str,
    version: int,
    net: StagedNet,
    recipe: Recipe,
    split: Split,
    provenance: Provenance,
    report: OnProgress,
) -> tuple[Manifest, bytes, Calibration]:
    """Calibrate a trained network and describe it.

    The weights are rounded to half precision before calibration, so that the policy is for what is published.

    Raises:
        ValueError: The exits are boosted: serving answers with each exit's own logits.

    Returns:
        Manifest and encoded weights, to be given to ``Store.publish``, and the account of the calibration.
    """
    if recipe.boost > 0:
        raise ValueError("boosted exits cannot be served: that needs the logits of all earlier exits")
    net.load_state_dict({key: _rounded(value) for key, value in net.state_dict().items()})
    height, width = split.train.images.shape[2:]
    spec = InputSpec(height=height, width=width, mean=recipe.mean, std=recipe.std, resize=min(height, width))
    stages = count_stages(net, height, width)
    calibration, check = calibrate_net(net, spec, stages, split.calibration, split.budget_check, report)
    accuracies = check.correct.mean(axis=1).tolist()
    weights = encode_weights(net)
    manifest = Manifest(
        name=name,
        version=version,
        network=recipe.network,
        arguments=recipe.arguments,
        input=spec,
        task=recipe.task,
        classes=split.train.classes,
        exits=tuple(
            ExitSpec(block_flops=stage.block, head_flops=stage.head, accuracy=accuracy)
            for stage, accuracy in zip(stages, accuracies, strict=True)
        ),
        policy=calibration.policy,
        provenance=provenance,
        weights_sha256=weights_sha256(weights),
    )
    return manifest, weights, calibration


def provenance(run: Run, split: Split, command: str) -> Provenance:
    """Where the network of the finished ``run`` comes from, trained by ``command`` on rows of ``split``."""
    return Provenance(
        command=command,
        recipe=run.recipe.model_dump(mode="json"),
        start_sha256=run.made_from.get("start"),
        teacher_sha256=run.made_from.get("teacher"),
        seed=run.seed,
        hardware=hardware(),
        duration_s=round(run.seconds, 1),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries={"python": platform.python_version(), "torch": str(torch.__version__)},
        rows={
            "train": split.train.source,
            "calibration": split.calibration.source,
            "budget_check": split.budget_check.source,
        },
    )


def _rounded(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.float16).to(value.dtype) if value.is_floating_point() and value.ndim > 1 else value
