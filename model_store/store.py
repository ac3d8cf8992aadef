"""Artifacts on disk: ``<root>/<name>/<version>/{model.safetensors, manifest.json}``.

Published in one rename, verified at every load: hash, tensors, shapes, finite values, FLOPs. No pickle
anywhere.

StoreError
├── ArtifactNotFound   no such name or version
├── ArtifactExists     that version is published already; versions never change
└── ArtifactBroken     files missing, unreadable, or not what the manifest says
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import Tensor

from model_store import nets
from model_store.flops import count_stages
from model_store.manifest import Manifest
from model_store.nets.staged import StagedNet
from model_store.policy import Policy

WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"

EMBEDDED = Path(__file__).parent / "artifacts"
"""Root of the models that come with the package."""


class StoreError(Exception):
    """An artifact cannot be used; the message names it and the reason."""


class ArtifactNotFound(StoreError):
    """No artifact of this name or version."""


class ArtifactExists(StoreError):
    """This version is already published."""


class ArtifactBroken(StoreError):
    """The files are not what they claim to be."""


@dataclass(frozen=True)
class Artifact:
    """A loaded model: its manifest and its network, in evaluation mode, float32, on the CPU."""

    manifest: Manifest
    net: StagedNet


def encode_weights(net: StagedNet) -> bytes:
    """The network's tensors as safetensors: half precision, but vectors (BatchNorm, biases) whole."""
    tensors = {}
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        tensors[key] = value.to(torch.float16 if value.ndim > 1 else torch.float32).contiguous()
    return format_tensors(tensors)


def weights_sha256(weights: bytes) -> str:
    """SHA-256 of the encoded weights, hexadecimal, as the manifest records it."""
    return hashlib.sha256(weights).hexdigest()


class Store:
    """Artifacts below one root folder."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, which may not exist yet."""
        self.root = root

    def versions(self) -> dict[str, list[int]]:
        """Published versions by name, rising."""
        found: dict[str, list[int]] = {}
        for path in sorted(self.root.glob(f"*/*/{MANIFEST}")):
            if path.parent.name.isdecimal() and not path.parts[-3].startswith("."):
                found.setdefault(path.parts[-3], []).append(int(path.parent.name))
        return {name: sorted(versions) for name, versions in found.items()}

    def resolve(self, name: str, version: int | None = None) -> tuple[str, int]:
        """Name and version, the latest where none is asked for.

        Raises:
            ArtifactNotFound: Nothing published under that name or version.
        """
        known = self.versions()
        if name not in known or (version is not None and version not in known[name]):
            wanted = name if version is None else f"{name}@{version}"
            listed = ", ".join(f"{key}@{max(value)}" for key, value in known.items()) or "none"
            raise ArtifactNotFound(f"no artifact {wanted} in {self.root}; there are: {listed}")
        return name, max(known[name]) if version is None else version

    def read_manifest(self, name: str, version: int | None = None) -> Manifest:
        """Read and validate a manifest alone.

        Raises:
            ArtifactNotFound: Nothing published under that name or version.
            ArtifactBroken: Not a valid manifest of that artifact.
        """
        name, version = self.resolve(name, version)
        path = self._folder(name, version) / MANIFEST
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ArtifactBroken(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "document"
            raise ArtifactBroken(f"{path}: not a valid manifest: {place}: {first['msg']}") from error
        if (manifest.name, manifest.version) != (name, version):
            raise ArtifactBroken(f"{path} says it is {manifest.name}@{manifest.version}")
        return manifest

    def load(self, name: str, version: int | None = None) -> Artifact:
        """Load and verify an artifact.

        Raises:
            ArtifactNotFound: Nothing published under that name or version.
            ArtifactBroken: Anything about it is not what the manifest says.
        """
        manifest = self.read_manifest(name, version)
        path = self._folder(manifest.name, manifest.version) / WEIGHTS
        try:
            weights = path.read_bytes()
        except OSError as error:
            raise ArtifactBroken(f"{path}: {error.strerror}") from error
        if weights_sha256(weights) != manifest.weights_sha256:
            raise ArtifactBroken(
                f"{path}: SHA-256 is not the one in the manifest; the file was damaged or replaced"
            )
        try:
            tensors = parse_tensors(weights)
        except SafetensorError as error:
            raise ArtifactBroken(f"{path}: not a safetensors file: {error}") from error
        return Artifact(manifest, build_net(manifest, tensors, path))

    def publish(self, manifest: Manifest, weights: bytes) -> Path:
        """Write an artifact so that it is there whole or not at all.

        Args:
            manifest: Its ``weights_sha256`` must be that of ``weights``.
            weights: As ``encode_weights`` makes them.

        Returns:
            The artifact's folder.

        Raises:
            ArtifactExists: That version is published already.
            ArtifactBroken: Weights and manifest do not fit together.
        """
        if weights_sha256(weights) != manifest.weights_sha256:
            raise ArtifactBroken(f"{manifest.name}: the manifest's SHA-256 is not that of the weights")
        folder = self._folder(manifest.name, manifest.version)
        build_net(manifest, parse_tensors(weights), folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            _write_synced(partial / WEIGHTS, weights)
            _write_synced(partial / MANIFEST, _format_manifest(manifest))
            partial.chmod(0o755)
            os.rename(partial, folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            if folder.exists():
                raise ArtifactExists(f"{manifest.name}@{manifest.version} is published already") from error
            raise
        return folder

    def replace_manifest(self, manifest: Manifest) -> None:
        """Replace a published manifest in one rename, e.g. for a new policy; the weights stay as they are.

        Raises:
            ArtifactNotFound: That version is not published.
            ArtifactBroken: The new manifest is for other weights.
        """
        old = self.read_manifest(manifest.name, manifest.version)
        if old.weights_sha256 != manifest.weights_sha256:
            raise ArtifactBroken(
                f"{manifest.name}@{manifest.version}: a new manifest cannot change the weights"
            )
        path = self._folder(manifest.name, manifest.version) / MANIFEST
        partial = path.with_suffix(".partial")
        _write_synced(partial, _format_manifest(manifest))
        os.replace(partial, path)

    def next_version(self, name: str) -> int:
        """One more than the latest published version of ``name``."""
        return max(self.versions().get(name, [0])) + 1

    def _folder(self, name: str, version: int) -> Path:
        return self.root / name / str(version)


def with_policy(manifest: Manifest, policy: Policy) -> Manifest:
    """The same manifest with another policy, validated."""
    return Manifest.model_validate({**manifest.model_dump(), "policy": policy.model_dump()})


def build_net(manifest: Manifest, tensors: dict[str, Tensor], path: Path) -> StagedNet:
    """Build the manifest's network with ``tensors`` as its weights; ``path`` is for messages.

    Raises:
        ArtifactBroken: Unknown network, other tensors or shapes than it has, values that are not finite, or
            FLOPs other than the manifest's.
    """
    try:
        with torch.device("meta"):  # no random initialisation: every tensor is replaced below
            net = nets.build(manifest.network, manifest.arguments)
    except ValueError as error:
        raise ArtifactBroken(f"{path}: {error}") from error
    counted = count_stages(net, manifest.input.height, manifest.input.width)
    if counted != manifest.stages:
        raise ArtifactBroken(f"{path}: the network's FLOPs per stage are not those of the manifest")
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
    return net.eval()


def _format_manifest(manifest: Manifest) -> bytes:
    return (manifest.model_dump_json(indent=1) + "\n").encode()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
