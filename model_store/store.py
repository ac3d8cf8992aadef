"""Artifacts on disk: ``<root>/<name>/<version>/{model.safetensors, manifest.json}``.

Published in one rename, verified at every load: hash, tensors, shapes, finite values, FLOPs. No pickle
anywhere.
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

from model_store import EMBEDDED as EMBEDDED
from model_store.files import replace_files, write_synced
from model_store.manifest import Manifest
from model_store.nets.staged import StagedNet
from model_store.policy import Policy
from model_store.verify import (
    MANIFEST,
    WEIGHTS,
    ArtifactBroken,
    ArtifactExists,
    ArtifactNotFound,
    NotWritten,
    StoreError,
    build_net,
)

__all__ = [
    "Artifact",
    "ArtifactBroken",
    "ArtifactExists",
    "ArtifactNotFound",
    "NotWritten",
    "Store",
    "StoreError",
    "encode_weights",
    "weights_sha256",
    "with_policy",
]


@dataclass(frozen=True)
class Artifact:
    """A loaded model.

    Attributes:
        manifest: What is known of it.
        net: In evaluation mode, float32, on the CPU.
        folder: Where its files are.
    """

    manifest: Manifest
    net: StagedNet
    folder: Path


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
        """Published versions by name, rising.

        A folder is there once it is whole, so that one without a manifest is a version that was damaged: to
        pass over it would serve another one in its place.

        Raises:
            ArtifactBroken: The store cannot be read.
        """
        found: dict[str, list[int]] = {}
        try:
            paths = sorted(self.root.glob("*/*/"))
        except OSError as error:
            raise ArtifactBroken(f"{self.root}: {error.strerror}") from error
        for path in paths:
            if path.name.isdecimal() and not path.parent.name.startswith("."):
                found.setdefault(path.parent.name, []).append(int(path.name))
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
        return Artifact(manifest, build_net(manifest, tensors, path.parent), path.parent)

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
            NotWritten: The store takes no more, or may not be written to.
        """
        if weights_sha256(weights) != manifest.weights_sha256:
            raise ArtifactBroken(f"{manifest.name}: the manifest's SHA-256 is not that of the weights")
        folder = self._folder(manifest.name, manifest.version)
        build_net(manifest, parse_tensors(weights), folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        except OSError as error:
            raise NotWritten(f"{folder}: {error.strerror}; nothing was published") from error
        try:
            write_synced(partial / WEIGHTS, weights)
            write_synced(partial / MANIFEST, _format_manifest(manifest))
            partial.chmod(0o755)
            os.rename(partial, folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            if folder.exists():
                raise ArtifactExists(f"{manifest.name}@{manifest.version} is published already") from error
            raise NotWritten(f"{folder}: {error.strerror}; nothing was published") from error
        return folder

    def replace_manifest(self, manifest: Manifest) -> None:
        """Replace a published manifest in one rename, e.g. for a new policy; the weights stay as they are.

        Raises:
            ArtifactNotFound: That version is not published.
            ArtifactBroken: The new manifest is for other weights.
            NotWritten: The store takes no more; the old manifest stays.
        """
        old = self.read_manifest(manifest.name, manifest.version)
        if old.weights_sha256 != manifest.weights_sha256:
            raise ArtifactBroken(
                f"{manifest.name}@{manifest.version}: a new manifest cannot change the weights"
            )
        replace_files(self._folder(manifest.name, manifest.version), {MANIFEST: _format_manifest(manifest)})

    def next_version(self, name: str) -> int:
        """One more than the latest published version of ``name``."""
        return max(self.versions().get(name, [0])) + 1

    def _folder(self, name: str, version: int) -> Path:
        return self.root / name / str(version)


def with_policy(manifest: Manifest, policy: Policy) -> Manifest:
    """The same manifest with another policy, validated."""
    return Manifest.model_validate({**manifest.model_dump(), "policy": policy.model_dump()})


def _format_manifest(manifest: Manifest) -> bytes:
    return (manifest.model_dump_json(indent=1) + "\n").encode()
