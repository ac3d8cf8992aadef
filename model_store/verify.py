"""From a manifest and its tensors to a network, verified.

StoreError
├── ArtifactNotFound   no such name or version
├── ArtifactExists     that version is published already; versions never change
└── ArtifactBroken     files missing, unreadable, or not what the manifest says
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model_store import nets
from model_store.flops import measure_stages
from model_store.manifest import Manifest
from model_store.nets.staged import StagedNet


class StoreError(Exception):
    """An artifact cannot be used; the message names it and the reason."""


class ArtifactNotFound(StoreError):
    """No artifact of this name or version."""


class ArtifactExists(StoreError):
    """This version is already published."""


class ArtifactBroken(StoreError):
    """The files are not what they claim to be."""


def build_net(manifest: Manifest, tensors: dict[str, Tensor], path: Path) -> StagedNet:
    """Build the manifest's network with ``tensors`` as its weights; ``path`` is for messages.

    Raises:
        ArtifactBroken: Unknown network, other tensors or shapes than it has, values that are not finite, or
            FLOPs or a number of classes other than the manifest's.
    """
    try:
        with torch.device("meta"):  # no random initialisation: every tensor is replaced below
            net = nets.build(manifest.network, manifest.arguments)
    except (ValueError, RuntimeError) as error:  # a tensor may be too large for any memory
        raise ArtifactBroken(f"{path}: {error}") from error
    values = {key: value.to(torch.float32) for key, value in tensors.items()}
    for key, value in values.items():
        if not value.isfinite().all():
            raise ArtifactBroken(f"{path}: tensor {key} holds values that are not finite")
    for key in net.state_dict():
        if key.endswith("num_batches_tracked"):
            values[key] = torch.tensor(0)
    try:
        net.load_state_dict(values, assign=True)
    except RuntimeError as error:
        raise ArtifactBroken(
            f"{path}: tensors do not fit the network: {str(error).splitlines()[1].strip()}"
        ) from error
    stages, classes = measure_stages(net, manifest.input.height, manifest.input.width)
    if stages != manifest.stages:
        raise ArtifactBroken(f"{path}: the network's FLOPs per stage are not those of the manifest")
    if set(classes) != {named := len(manifest.classes)}:
        raise ArtifactBroken(f"{path}: {named} classes are named, the network tells {max(classes)} apart")
    return net.eval()
