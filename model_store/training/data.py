"""Labelled images in memory, from a Parquet folder, a torchvision data set or an image folder.

The split of the project: of the training rows in file order the last 5,000 are held out, the first half of
them for calibration, the other half for checking budgets. Test rows are for final numbers only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

HELD_OUT_ROWS = 5_000
"""Rows at the end of the training file that are never trained on."""


class DataError(Exception):
    """A data set cannot be read; the message names the place and the reason."""


@dataclass(frozen=True)
class Rows:
    """Labelled images of one size.

    Attributes:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,).
        classes: Class names in label order.
        source: Where the rows come from, for provenance, e.g. ``cifar10/train[0:45000]``.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def slice(self, first: int, last: int) -> Rows:
        """Rows ``first`` to ``last`` (exclusive), remembered in ``source``."""
        source = f"{self.source}[{first}:{last}]"
        return replace(self, images=self.images[first:last], labels=self.labels[first:last], source=source)

    def to(self, device: torch.device) -> Rows:
        """The same rows on ``device``."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Split:
    """Training rows cut by the project's rule."""

    train: Rows
    calibration: Rows
    budget_check: Rows

    @property
    def held_out(self) -> Rows:
        """All rows that are never trained on."""
        images = torch.cat([self.calibration.images, self.budget_check.images])
        labels = torch.cat([self.calibration.labels, self.budget_check.labels])
        source = f"{self.calibration.source}+{self.budget_check.source}"
        return Rows(images, labels, self.calibration.classes, source)


def load_split(data: str) -> Split:
    """Load the training rows of ``data`` and cut off the held-out ones.

    Raises:
        DataError: Nothing readable there, or not more rows than are held out.
    """
    rows = load(data, "train")
    cut = len(rows) - HELD_OUT_ROWS
    if cut <= 0:
        raise DataError(f"{data}: {len(rows)} training rows, but {HELD_OUT_ROWS} are held out")
    middle = cut + HELD_OUT_ROWS // 2
    return Split(rows.slice(0, cut), rows.slice(cut, middle), rows.slice(middle, len(rows)))


def load(data: str, part: str) -> Rows:
    """Load the rows of ``data``.

    Args:
        data: A folder with ``train-*.parquet`` and ``test-*.parquet`` (columns ``image.bytes`` and
            ``label``), a folder with ``train/CLASS/*`` and ``test/CLASS/*`` image files, or
            ``torchvision:NAME:DIR``.
        part: ``train`` or ``test``.

    Raises:
        DataError: Nothing readable there.
    """
    if data.startswith("torchvision:"):
        return _load_torchvision(data, part)
    folder = Path(data)
    name = f"{folder.resolve().name}/{part}"
    shards = sorted(folder.glob(f"{part}-*.parquet"))
    if shards:
        return _load_parquet(shards, name)
    if (folder / part).is_dir():
        return _load_folder(folder / part, name)
    raise DataError(f"{data}: neither {part}-*.parquet nor a folder {part}/ is there")


def _load_parquet(shards: list[Path], source: str) -> Rows:
    import pyarrow.parquet as parquet

    images: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    for shard in shards:
        try:
            table = parquet.read_table(shard, columns=["image", "label"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{shard.name}: not a readable Parquet file with image and label: {error}"
            ) from error
        images.extend(_pixels(io.BytesIO(cell["bytes"].as_py())) for cell in table["image"])
        labels.extend(table["label"].to_pylist())
        metadata = table.schema.metadata or {}
    classes = _class_names(metadata.get(b"huggingface"), labels)
    return _rows(images, labels, classes, source)


def _class_names(metadata: bytes | None, labels: list[int]) -> tuple[str, ...]:
    """Class names from the Hugging Face schema metadata, or the numbers where there are none."""
    try:
        return tuple(json.loads(metadata or b"")["info"]["features"]["label"]["names"])
    except (ValueError, KeyError, TypeError):
        return tuple(str(label) for label in range(max(labels) + 1))


def _load_folder(folder: Path, source: str) -> Rows:
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    files = [(path, k) for k, name in enumerate(classes) for path in sorted((folder / name).iterdir())]
    if not files:
        raise DataError(f"{folder}: no class folders with images")
    return _rows([_pixels(path) for path, _ in files], [label for _, label in files], classes, source)


def _load_torchvision(data: str, part: str) -> Rows:
    from model_store.torchvision_import import torchvision

    _, name, folder = data.split(":", 2)
    try:
        rows = getattr(torchvision.datasets, name)(folder, train=part == "train", download=False)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise DataError(f"{data}: {error}") from error
    images, labels = zip(*((np.asarray(image.convert("RGB")), label) for image, label in rows), strict=True)
    return _rows(list(images), list(labels), tuple(map(str, rows.classes)), f"{name}/{part}")


def _pixels(file: io.BytesIO | Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(Image.open(file).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"an image cannot be decoded: {error}") from error


def _rows(images: list[Any], labels: list[int], classes: tuple[str, ...], source: str) -> Rows:
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(f"{source}: images must share one size, found {sorted(sizes)[:3]}")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Rows(pixels, torch.tensor(labels), classes, source)


def batches(rows: Rows, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) in order, ``size`` at a time, the last one shorter."""
    for start in range(0, len(rows), size):
        yield rows.images[start : start + size], rows.labels[start : start + size]
