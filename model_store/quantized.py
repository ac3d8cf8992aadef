"""An artifact's int8 graph: ``int8.xml`` and ``int8.bin`` beside the weights, ``int8.json`` about them.

The record belongs to the weights that it names, and the files to the record by their hashes. It is written
last: without it there is no int8 graph. Published versions begin without one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from model_store.files import replace_files
from model_store.verify import ArtifactBroken

GRAPH, CONSTANTS, RECORD = "int8.xml", "int8.bin", "int8.json"


class Int8Exit(BaseModel, frozen=True, extra="forbid"):
    """One exit in float32 and in int8, on the same rows."""

    exit: int = Field(ge=1, description="1-based.")
    float32_accuracy: float = Field(ge=0, le=1, description="Share of rows answered correctly in float32.")
    int8_accuracy: float = Field(ge=0, le=1, description="The same in int8.")
    standard_error: float = Field(ge=0, description="Of int8 minus float32, paired by row.")
    agreement: float = Field(ge=0, le=1, description="Share of rows that both give the same label.")

    @property
    def gain(self) -> float:
        """Accuracy in int8 minus that in float32."""
        return self.int8_accuracy - self.float32_accuracy


class Int8Record(BaseModel, frozen=True, extra="forbid"):
    """What ``int8.json`` holds."""

    weights_sha256: str = Field(description="Of the weights that were quantized, as in the manifest.")
    graph_sha256: str = Field(description="Of int8.xml.")
    constants_sha256: str = Field(description="Of int8.bin.")
    preset: str = Field(description="NNCF's: performance or mixed.")
    calibration: str = Field(description="Rows that the ranges of values were taken from.")
    judged: str = Field(description="Rows that the accuracies are of.")
    count: int = Field(ge=1, description="How many rows they are.")
    exits: tuple[Int8Exit, ...] = Field(description="One per exit.")
    hardware: str = Field(description="Machine.")
    created: str = Field(description="UTC, ISO 8601.")
    libraries: dict[str, str] = Field(description="Versions of what quantized.")


@dataclass(frozen=True)
class Int8Graph:
    """A verified int8 graph.

    Attributes:
        graph: ``int8.xml``, as OpenVINO reads it.
        constants: ``int8.bin``.
        record: What is known of them.
    """

    graph: bytes
    constants: bytes
    record: Int8Record


def file_sha256(content: bytes) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_record(folder: Path, weights_sha256: str) -> Int8Record | None:
    """The record in an artifact's ``folder``, or None where it has no int8 graph.

    Args:
        folder: The artifact's.
        weights_sha256: From its manifest.

    Raises:
        ArtifactBroken: Not a record, or one of other weights.
    """
    path = folder / RECORD
    try:
        record = Int8Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactBroken(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise ArtifactBroken(f"{path}: not a record of an int8 graph: {place}: {first['msg']}") from error
    if record.weights_sha256 != weights_sha256:
        raise ArtifactBroken(f"{path}: made from other weights than the manifest's; run exitramp quantize")
    return record


def read_int8(folder: Path, weights_sha256: str) -> Int8Graph | None:
    """The int8 graph in an artifact's ``folder``, verified, or None where there is none.

    What is returned is what was verified: nobody needs to read the files again.

    Args:
        folder: The artifact's.
        weights_sha256: From its manifest.

    Raises:
        ArtifactBroken: A file is missing, or not the one that the record names.
    """
    record = read_record(folder, weights_sha256)
    if record is None:
        return None
    contents = []
    for name, sha256 in ((GRAPH, record.graph_sha256), (CONSTANTS, record.constants_sha256)):
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactBroken(f"{path}: {error.strerror}") from error
        if file_sha256(content) != sha256:
            raise ArtifactBroken(f"{path}: SHA-256 is not the one in {RECORD}; run exitramp quantize")
        contents.append(content)
    graph, constants = contents
    return Int8Graph(graph, constants, record)


def write_int8(folder: Path, int8: Int8Graph) -> None:
    """Write the files into an artifact's ``folder``, in place of those that are there.

    Whoever reads meanwhile finds no int8 graph, never half of one.

    Raises:
        NotWritten: There is no room for them; those that are there stay.
    """
    document = (int8.record.model_dump_json(indent=1) + "\n").encode()
    contents = {GRAPH: int8.graph, CONSTANTS: int8.constants, RECORD: document}
    replace_files(folder, contents, withdrawn=RECORD)
