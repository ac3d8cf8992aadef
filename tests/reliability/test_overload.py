"""Three times what the server can answer: it answers with less, refuses what is beyond that, and in time."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
from collections import Counter, defaultdict
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import uvloop
from figures import Figure
from light_sender import LightSender
from live import serving

from loadtest.generator import Run, closed_loop, open_loop, open_session
from loadtest.images import Picture, read_pictures
from loadtest.measures import percentiles_ms
from loadtest.openloop import summary
from loadtest.target import loaded_models

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CIFAR10", ROOT / "data" / "cifar10"))
"""Folder with ``test-*.parquet``. Without, the playground's samples are sent, and accuracy is not judged."""

MODEL = "cifar10-fusion"
OBJECTIVE_S = 0.5
FACTOR = 3
CONNECTIONS = 800


ONSET_S = 2.0
"""In which budgets fall to the floor."""


def pictures() -> list[Picture]:
    """Labelled images that the model was not trained on."""
    if DATA.is_dir():
        return read_pictures(DATA)
    folder = ROOT / "service" / "playground" / "samples"
    samples = json.loads((folder / "samples.json").read_text())
    of_task = [sample for sample in samples if sample["task"] == "cifar10"]
    return [Picture((folder / sample["file"]).read_bytes(), sample["label"]) for sample in of_task]


async def overloaded(url: str, sent: list[Picture]) -> tuple[float, Run, dict[str, Any]]:
    """Capacity in answers per second, what came at three times of it, and the curves of the models."""
    chance = random.Random(0)
    async with open_session(url, 1) as session:
        curves = {model["name"]: model["curve"] for model in await loaded_models(session)}
    sender = await LightSender.connected(url, CONNECTIONS, chance.sample(sent, len(sent)))
    await closed_loop(sender, 32, 6)  # until all is compiled
    closed = await closed_loop(sender, 32, 6)
    capacity = len(closed.in_time) / closed.seconds
    await asyncio.sleep(5)  # what brownout remembers
    run = await open_loop(sender, FACTOR * capacity, 15, chance)
    sender.end()
    await asyncio.sleep(0.1)
    return capacity, run, curves


def p99_ms(run: Run, status: str) -> float:
    """Of the answers with ``status`` to what was due in the median second behind the onset.

    The table's bound is for all of them; this says how much of it the onset takes.
    """
    started_s = run.end_s - run.seconds
    seconds: dict[int, list[float]] = defaultdict(list)
    for sample in run.samples:
        if sample.status == status and sample.due_s - started_s >= ONSET_S:
            seconds[int(sample.due_s - started_s)].append(sample.seconds)
    return median([percentiles_ms(found)["p99"] for found in seconds.values()] or [0.0])


@pytest.mark.soak
def test_three_times_the_capacity_costs_accuracy_as_calibrated_and_no_answer_its_time(figure: Figure) -> None:
    settings = {"MODELS": f'["{MODEL}"]', "LATENCY_OBJECTIVE_S": str(OBJECTIVE_S), "HTTP_WORKERS": "1"}
    with serving(settings) as server:
        capacity, run, curves = uvloop.run(overloaded(server.url, pictures()))
    options = argparse.Namespace(rate=FACTOR * capacity, seconds=run.seconds)
    told = summary(options, "", run, curves)
    statuses, count, sent = Counter(told["statuses"]), told["answered"], told["sent"]
    floor, answered_ms = curves[MODEL][0]["mean_flops"], p99_ms(run, "200")
    server_ms = percentiles_ms(one.done_s - one.sent_s for one in run.samples if one.status == "200")["p99"]
    promised, right = told["calibrated_accuracy"], told["accuracy"]
    error = sqrt(promised * (1 - promised) / count)
    judged = f"accuracy {right:.1%} ± {error:.1%}, calibrated {promised:.1%}" if DATA.is_dir() else "samples"
    figure(
        16,
        f"{FACTOR} x {capacity:.0f}/s = {len(run.samples) / run.seconds:.0f}/s for {run.seconds:.0f} s: "
        f"{count} of {sent} answered, {statuses['503']} x 503, others "
        f"{sent - statuses['200'] - statuses['503']}; p99 {server_ms:.0f} ms with the onset "
        f"({told['latency_ms']['p99']:.0f} from when they were due), "
        f"{answered_ms:.0f} in the median second after it (client behind by "
        f"{told['generator_behind_ms']['p99']:.0f}), refusals {p99_ms(run, '503'):.0f}; "
        f"{judged} at {told['mean_flops'] / 1e6:.2f} M (floor {floor / 1e6:.2f}); "
        f"{told['degraded']:.0%} degraded",
    )
    assert set(statuses) <= {"200", "503"} and told["503_without_retry_after"] == 0
    assert told["degraded"] > 0.9 and told["mean_flops"] < 1.1 * floor, "nobody is refused before the floor"
    assert count > 0.7 * capacity * run.seconds, "to refuse is no reason to answer less"
    assert not DATA.is_dir() or abs(right - promised) < 4 * error
    assert server_ms <= 1000 * OBJECTIVE_S, (
        "from when they left: by how much that was late is the client's doing"
    )
