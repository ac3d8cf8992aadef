"""What can happen to a published artifact: each damage, and what the message about it must say."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors

from model_store.quantized import CONSTANTS, GRAPH, RECORD, file_sha256
from model_store.store import MANIFEST, WEIGHTS, weights_sha256


class Damage(NamedTuple):
    """One of them.

    Attributes:
        file: That the message names.
        make: Does it to the artifact in a folder.
        reason: What the message says of it.
    """

    file: str
    make: Callable[[Path], object]
    reason: str


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], file: str = MANIFEST) -> None:
    """Have ``change`` change a JSON document."""
    document = json.loads((folder / file).read_text())
    change(document)
    (folder / file).write_text(json.dumps(document))


def rehash(folder: Path, weights: bytes) -> None:
    """Other weights, of which the manifest knows."""
    (folder / WEIGHTS).write_bytes(weights)
    rewrite(folder, lambda manifest: manifest.update(weights_sha256=weights_sha256(weights)))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def be_folder(path: Path) -> None:
    """Unreadable even for root."""
    path.unlink()
    path.mkdir()


def lead_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def nan(folder: Path) -> None:
    tensors = parse_tensors((folder / WEIGHTS).read_bytes())
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    rehash(folder, format_tensors(tensors))


def _of_weights(make: Callable[[Path], object], reason: str) -> Damage:
    return Damage(WEIGHTS, lambda folder: make(folder / WEIGHTS), reason)


def _of_manifest(change: Callable[[dict[str, Any]], object], reason: str, file: str = MANIFEST) -> Damage:
    return Damage(file, lambda folder: rewrite(folder, change), reason)


SMALL: dict[str, Damage] = {
    "weights truncated": _of_weights(truncate, "SHA-256"),
    "one bit of the weights": _of_weights(flip, "SHA-256"),
    "weights empty": _of_weights(lambda path: path.write_bytes(b""), "SHA-256"),
    "weights missing": _of_weights(Path.unlink, "No such file"),
    "weights a folder": _of_weights(be_folder, "Is a directory"),
    "weights a dangling link": _of_weights(lead_nowhere, "No such file"),
    "weights a pickle": Damage(
        WEIGHTS, lambda f: rehash(f, pickle.dumps({"a": 1})), "not a safetensors file"
    ),
    "weights of NaN": Damage(WEIGHTS, nan, "not finite"),
    "another shape": _of_manifest(
        lambda manifest: manifest["arguments"].update(num_classes=11), "tensors do not fit", WEIGHTS
    ),
    "other arguments": _of_manifest(
        lambda manifest: manifest["arguments"].update(channels=2**62), "cannot be built"
    ),
    "another network": _of_manifest(lambda manifest: manifest.update(network="x"), "unknown network"),
    "other FLOPs": _of_manifest(
        lambda manifest: manifest["exits"][0].update(head_flops=1), "FLOPs per stage"
    ),
    "another name": _of_manifest(lambda manifest: manifest.update(name="tiny"), "says it is tiny@"),
    "an unknown field": _of_manifest(lambda manifest: manifest.update(extra=1), "extra"),
    "a policy of an exit that is not there": _of_manifest(
        lambda manifest: manifest["policy"]["segments"][0].update(exits=[1, 2, 9]), "exit 9"
    ),
    "manifest no JSON": Damage(MANIFEST, lambda f: (f / MANIFEST).write_text("{"), "not a valid manifest"),
    "manifest truncated": Damage(MANIFEST, lambda f: truncate(f / MANIFEST), "not a valid manifest"),
    "manifest missing": Damage(MANIFEST, lambda f: (f / MANIFEST).unlink(), "No such file"),
    "manifest a folder": Damage(MANIFEST, lambda f: be_folder(f / MANIFEST), "Is a directory"),
    "manifest a dangling link": Damage(MANIFEST, lambda f: lead_nowhere(f / MANIFEST), "No such file"),
}
"""Of any artifact that the small network was published as."""


def reclaim(folder: Path, file: str, content: bytes) -> None:
    """Another ``file`` of the int8 graph, of which the record knows."""
    (folder / file).write_bytes(content)
    name = {GRAPH: "graph_sha256", CONSTANTS: "constants_sha256"}[file]
    rewrite(folder, lambda record: record.update({name: file_sha256(content)}), RECORD)


INT8: dict[str, Damage] = {
    "int8 graph truncated": Damage(GRAPH, lambda f: truncate(f / GRAPH), "SHA-256"),
    "one bit of the int8 constants": Damage(CONSTANTS, lambda f: flip(f / CONSTANTS), "SHA-256"),
    "int8 constants missing": Damage(CONSTANTS, lambda f: (f / CONSTANTS).unlink(), "No such file"),
    "int8 record no JSON": Damage(RECORD, lambda f: (f / RECORD).write_text("{"), "not a record"),
    "int8 graph no graph": Damage(GRAPH, lambda f: reclaim(f, GRAPH, b"<net>"), "not an int8 graph"),
    "int8 graph of nothing": Damage(GRAPH, lambda f: reclaim(f, CONSTANTS, b""), "not an int8 graph"),
}
"""Of an artifact with an int8 graph."""
