"""The images that are sent, and what they show."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from loadtest.errors import LoadTestError

SIZES = ((32, 32), (96, 96), (224, 224), (500, 375))
"""Width and height of synthetic images, pixels."""

SYNTHETIC_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image and, where it is known, its class: index or name, as the data set has it."""

    content: bytes
    label: str | None = None

    def shown_by(self, prediction: Mapping[str, Any]) -> bool | None:
        """Whether ``prediction`` is right; ``None`` if nobody knows."""
        if self.label is None:
            return None
        return self.label in (str(prediction["index"]), prediction["label"])


def read_rows(folder: Path, part: str) -> list[tuple[bytes, int]]:
    """(encoded image, label) of every row of ``part`` in file order.

    Raises:
        LoadTestError: There is none.
    """
    shards = sorted(folder.glob(f"{part}-*.parquet"))
    if not shards:
        raise LoadTestError(f"{folder}: no {part}-*.parquet is there")
    return list(_rows(shards))


def read_pictures(place: Path) -> list[Picture]:
    """Labelled images: a Parquet file, a folder with ``test-*.parquet``, ``test/CLASS/*`` or ``CLASS/*``.

    Raises:
        LoadTestError: Nothing of that is there.
    """
    shards = [place] if place.is_file() else sorted(place.glob("test-*.parquet"))
    if shards:
        return [Picture(content, str(label)) for content, label in _rows(shards)]
    root = place / "test" if (place / "test").is_dir() else place
    files = (path for path in sorted(root.glob("*/*")) if path.is_file())
    pictures = [Picture(path.read_bytes(), path.parent.name) for path in files]
    if not pictures:
        raise LoadTestError(f"{place}: no Parquet file, no test-*.parquet, no CLASS/* is there")
    return pictures


def _rows(shards: Iterable[Path]) -> Iterator[tuple[bytes, int]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    for shard in shards:
        try:
            table = parquet.read_table(shard, columns=["image", "label"])
        except (OSError, arrow.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise LoadTestError(f"{shard}: no Parquet file of images and labels: {reason}") from error
        for row in table.to_pylist():
            yield row["image"]["bytes"], row["label"]


def synthetic_pictures(seed: int) -> list[Picture]:
    """Images without meaning in several sizes, coarse or fine, so that they differ in how hard they are."""
    chance = random.Random(seed)
    pictures = []
    for number in range(SYNTHETIC_IMAGES):
        side, file = chance.choice((2, 4, 8, 16)), io.BytesIO()
        colours = Image.frombytes("RGB", (side, side), chance.randbytes(side * side * 3))
        image = colours.resize(SIZES[number % len(SIZES)], Image.Resampling.NEAREST)
        image.save(file, chance.choice(("PNG", "JPEG")))
        pictures.append(Picture(file.getvalue()))
    return pictures
