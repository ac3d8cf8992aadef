"""From a manifest and its tensors to a network, verified.

StoreError
├── ArtifactNotFound   no such name or version
├── ArtifactExists     that version is published already; versions never change
├── ArtifactBroken     files missing, unreadable, or not what the manifest says
└── NotWritten         the store takes no more, or nobody may write there
"""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Final

import torch
from torch import Tensor

from model_store import nets
from model_store.flops import measure_stages
from model_store.manifest import Manifest
from model_store.nets.staged import StagedNet

WEIGHTS: Final = "model.safetensors"
MANIFEST: Final = "manifest.json"

REASON_CHARACTERS: Final = 300
"""Of what a library says: it may list every tensor of a network."""


class StoreError(Exception):
    """An artifact cannot be used; the message names it and the reason."""


class ArtifactNotFound(StoreError):
    """No artifact of this name or version."""


class ArtifactExists(StoreError):
    """This version is already published."""


class ArtifactBroken(StoreError):
    """The files are not what they claim to be."""


class NotWritten(StoreError):
    """The disk is full, or the folder is not to be written to; what was there before is as it was."""


def build_net(manifest: Manifest, tensors: dict[str, Tensor], folder: Path) -> StagedNet:
    """Build the manifest's network with ``tensors`` as its weights; messages name the artifact's ``folder``.

    Raises:
        ArtifactBroken: Unknown network, other tensors or shapes than it has, values that are not finite, or
            FLOPs or a number of classes other than the manifest's.
    """
    try:
        with torch.device("meta"):  # no random initialisation: every tensor is replaced below
            net = nets.build(manifest.network, manifest.arguments)
    except Exception as error:  # whatever a network says to arguments that nobody has checked
        raise ArtifactBroken(
            f"{folder / MANIFEST}: the network cannot be built: {one_line(error)}"
        ) from error
    values = {key: value.to(torch.float32) for key, value in tensors.items()}
    for key, value in values.items():
        if not value.isfinite().all():
            raise ArtifactBroken(f"{folder / WEIGHTS}: tensor {key} holds values that are not finite")
    for key in net.state_dict():
        if key.endswith("num_batches_tracked"):
            values[key] = torch.tensor(0)
    try:
        net.load_state_dict(values, assign=True)
    except RuntimeError as error:
        raise ArtifactBroken(
            f"{folder / WEIGHTS}: tensors do not fit the network of {MANIFEST}: {one_line(error)}"
        ) from error
    _check_outputs(manifest, net, folder)
    return net.eval()


def _check_outputs(manifest: Manifest, net: StagedNet, folder: Path) -> None:
    path, size = folder / MANIFEST, (manifest.input.height, manifest.input.width)
    try:
        stages, classes = measure_stages(net, *size)
    except RuntimeError as error:
        raise ArtifactBroken(
            f"{path}: images of {size} are not for the network: {one_line(error)}"
        ) from error
    if stages != manifest.stages:
        raise ArtifactBroken(f"{path}: the network's FLOPs per stage are not those of the manifest")
    if set(classes) != {named := len(manifest.classes)}:
        raise ArtifactBroken(f"{path}: {named} classes are named, the network tells {max(classes)} apart")


def one_line(error: Exception) -> str:
    """What ``error`` says, on one line that a person can read."""
    return shorten(str(error) or type(error).__name__, REASON_CHARACTERS, placeholder=" …")
