"""What a request may cost it never exceeds: each image its limit, several images their budgets' sum."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from figures import Figure
from live import Server, serving
from offline import encoded_images
from sending import Asked, Came, budget_headers, send_all

MODELS = ("cifar10-fusion", pytest.param("cifar100-fusion", marks=pytest.mark.soak))
IMAGES = 200
PART = 50
"""Images in one request for limits, which hold for each image by itself."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving({}) as running:
        yield running


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return encoded_images()[:IMAGES]


def exit_costs(server: Server, model: str) -> list[int]:
    return [entry["flops"] for entry in server.client.get(f"/models/{model}").json()["exits"]]


def around(costs: Sequence[int]) -> list[int]:
    """Each cost, one FLOP less and more, and the middle between two."""
    middles = [(low + high) // 2 for low, high in pairwise(costs)]
    return sorted({cost + step for cost in costs for step in (-1, 0, 1)} | set(middles))


def predictions(came: Came) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = came.json["predictions"]
    assert came.status == 200 and len(entries) == len(came.asked.images)
    return entries


@pytest.mark.parametrize("model", MODELS)
def test_no_image_spends_more_than_its_limit(
    server: Server, files: list[bytes], figure: Figure, model: str
) -> None:
    costs = exit_costs(server, model)
    limits, asked = around(costs), []
    for limit in limits:
        for mean in (None, limit - 1, 2 * costs[-1]):
            headers = {"X-Model": model, **budget_headers(mean, limit)}
            size = PART if mean is None else 2 * PART  # beside a budget, half of the requests
            for first in range(0, IMAGES, size):
                numbers = tuple(range(first, first + PART))
                asked.append(Asked("/classify", numbers, tuple(files[i] for i in numbers), headers))
    came = send_all(server.url, asked, connections=8)
    refused = [one for one in came if one.status == 422]
    answered = [one for one in came if one.status != 422]
    spent = [
        (int(one.asked.headers["X-FLOP-Limit"]), entry) for one in answered for entry in predictions(one)
    ]
    over = [(limit, entry) for limit, entry in spent if entry["flops"] > limit]
    alone = [one for one in answered if "X-FLOP-Budget" not in one.asked.headers]
    wasted = [
        entry
        for one in alone
        for entry in predictions(one)
        if entry["flops"] != max(cost for cost in costs if cost <= int(one.asked.headers["X-FLOP-Limit"]))
    ]
    figure(
        8,
        f"{model}: {len(limits)} limits x {IMAGES} images, and beside budgets: {len(over)} of {len(spent)} "
        f"over, {len(wasted)} not at the deepest exit that fits; {len(refused)} of {len(came)} refused",
    )
    assert not over and not wasted and len(spent) > 5000
    # Refused are the limits, and the budgets beside them, that are below the cheapest exit.
    assert {one.json["code"] for one in refused} == {"budget_too_small"}
    assert all(min(_allowed(one)) < costs[0] for one in refused)
    assert all(min(_allowed(one)) >= costs[0] for one in answered)


def _allowed(came: Came) -> list[int]:
    named = (came.asked.headers.get(name) for name in ("X-FLOP-Budget", "X-FLOP-Limit"))
    return [int(value) for value in named if value is not None]


SIZES = [((2, 3, 5, 8, 13, 33, 64), 12), pytest.param(range(2, 65), 5, marks=pytest.mark.soak)]
"""Images in a request, and how many budgets. A lone image's mean is held over many requests."""


@pytest.mark.parametrize(("sizes", "count"), SIZES, ids=["some-sizes", "all-sizes"])
@pytest.mark.parametrize("model", MODELS)
def test_several_images_never_sum_above_their_budgets(
    server: Server, files: list[bytes], figure: Figure, model: str, sizes: Sequence[int], count: int
) -> None:
    costs, chance = exit_costs(server, model), random.Random(0)
    budgets = [round(costs[0] + k * (costs[-1] - costs[0]) / (count - 1)) for k in range(count)]
    asked = []
    for mean in budgets:
        for size in sizes:
            numbers = tuple(chance.sample(range(IMAGES), size))
            headers = {"X-Model": model, **budget_headers(mean, None)}
            asked.append(Asked("/classify", numbers, tuple(files[i] for i in numbers), headers))
    came = send_all(server.url, asked, connections=8)
    shares = []
    for one in came:
        spent = sum(entry["flops"] for entry in predictions(one))
        assert spent == one.json["flops"] == int(one.headers["X-FLOPs"])
        shares.append(spent / (len(one.asked.images) * int(one.asked.headers["X-FLOP-Budget"])))
    images = sum(len(one.asked.images) for one in came)
    over = sum(share > 1 for share in shares)
    figure(
        8,
        f"{model}: {len(budgets)} budgets x {len(sizes)} sizes up to 64: {over} of {len(came)} sums "
        f"({images} images) over, the largest {max(shares):.4f} of what is allowed",
    )
    assert max(shares) <= 1
    assert max(shares) > 0.95, "budgets must be used, or there is nothing to exceed"
