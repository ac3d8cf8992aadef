"""Coverage-guided fuzzing of image input: libFuzzer, through atheris, looks for bytes that break ``decode``.

    PYTHONPATH=.:tests python -m fuzz.fuzz_preprocess --seconds 600

It ends with 0 when the time is over, otherwise at the first finding: an exception that is no ``ImageError``,
a result of the wrong shape, more than a second of processor time, or 700 MB. The bytes are kept in the folder
``--findings``; what reaches new code, in ``--corpus``, where the next run goes on.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["model_store.containers", "model_store.preprocess", "PIL"]):
    from model_store import containers, preprocess

from mutations.mutator import Mutator
from mutations.originals import originals

SPEC = preprocess.InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3, resize=32)
LIMITS = preprocess.ImageLimits()
LONGEST_S = 1.0
MOST_MB = 700  # the worst image that is admitted takes 360, Python and its packages 100
MUTATOR = Mutator(originals())


def check(data: bytes) -> None:
    """Fail on whatever is neither pixels nor an error that a client may see."""
    started_s = time.process_time()
    container = containers.sniff(data)
    if container is not None:
        try:
            source = containers.read(data, container)
            assert source.width >= 0 and source.height >= 0 and source.scans >= 1
        except containers.BrokenHeader as error:
            assert str(error)
    try:
        pixels = preprocess.decode(data, SPEC, LIMITS)
        assert (pixels.shape, pixels.dtype.name) == ((3, SPEC.height, SPEC.width), "uint8")
    except preprocess.ImageError as error:
        assert error.detail
    assert time.process_time() - started_s < LONGEST_S


def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
    """Half the time as libFuzzer would, else at the seams of the format."""
    dice = random.Random(seed)
    if dice.random() < 0.5:
        return bytes(atheris.Mutate(data, max_bytes))
    return MUTATOR.damaged("corpus", data, dice).data[:max_bytes]


def main() -> None:
    """Fuzz until the time is over or something is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer; the same finds the same")
    parser.add_argument("--findings", type=Path, default=Path(), help="folder for the bytes that break it")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="folder that it learns in")
    asked = parser.parse_args()
    asked.corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(originals().values()):
        (asked.corpus / f"original-{number}").write_bytes(data)
    options = [f"-max_total_time={asked.seconds}", f"-seed={asked.seed}", "-max_len=65536", "-timeout=20"]
    options += [f"-rss_limit_mb={MOST_MB}"]
    options += [f"-artifact_prefix={asked.findings}/", "-print_final_stats=1", str(asked.corpus)]
    atheris.Setup([sys.argv[0], *options], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
