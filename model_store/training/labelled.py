"""A user's labelled photographs, of any size, as a network takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from model_store.preprocess import ImageError, ImageLimits, InputSpec, decode
from model_store.training.data import DataError, Rows


def load_labelled(folder: Path, spec: InputSpec, classes: Sequence[str]) -> Rows:
    """Decode ``folder/CLASS/*`` as the service would.

    Args:
        folder: One folder for each class that there are images of, named as the class. Words may be joined by
            underscores; case does not matter where it does not tell two classes apart (ImageNet's cardigans).
        spec: Size of the images, and how they are resized.
        classes: The network's, in index order.

    Raises:
        DataError: No images, a folder that is no class, or a file that is no image.
    """
    index = {name: k for k, name in enumerate(classes)}
    spellings = Counter(map(_plain, classes))
    index |= {_plain(name): k for k, name in enumerate(classes) if spellings[_plain(name)] == 1}
    images, labels = [], []
    for place in sorted(path for path in folder.glob("*") if path.is_dir()):
        label = index.get(place.name.replace("_", " "), index.get(_plain(place.name)))
        if label is None:
            raise DataError(
                f"{place}: not one of the network's {len(classes)} classes, such as {classes[0]!r}"
            )
        for path in sorted(place.iterdir()):
            try:
                images.append(decode(path.read_bytes(), spec, ImageLimits()))
            except (OSError, ImageError) as error:
                raise DataError(f"{path}: {error}") from error
            labels.append(label)
    if len(images) < 2:
        raise DataError(
            f"{folder}: {len(images)} images in folders of classes, DIR/CLASS/*; at least 2 are needed"
        )
    return Rows(
        torch.from_numpy(np.stack(images)), torch.tensor(labels), tuple(classes), folder.resolve().name
    )


def halves(rows: Rows) -> tuple[Rows, Rows]:
    """Every other row, so that both halves have all classes."""

    def part(first: int) -> Rows:
        source = f"{rows.source}[{first}::2]"
        return Rows(rows.images[first::2], rows.labels[first::2], rows.classes, source)

    return part(0), part(1)


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()
