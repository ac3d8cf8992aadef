"""Models of one task over HTTP: limits, turns under a mean budget, requests of several images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from conftest import CLASSES, SPEC
from live import Server, serving

from model_store import nets
from model_store.store import Store
from model_store.training.imports import Imported, describe, uncalibrated_policy

MEMBERS = {
    "cheap": ("resnet", {"num_classes": 10, "small_input": True, "width": 0.125}, 0.80),
    "rich": ("vggnet5", {}, 0.90),
}
"""Network, arguments and accuracy, which is made up."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = Store(tmp_path_factory.mktemp("family"))
    for name, (network, arguments, accuracy) in MEMBERS.items():
        torch.manual_seed(0)
        net = nets.build(network, arguments).eval()
        imported = Imported(
            network, arguments, net, SPEC, "cifar10", CLASSES, (accuracy,), {"import": "test"}
        )
        policy = uncalibrated_policy(imported.stages, (accuracy,))
        store.publish(*describe(imported, name, 1, policy, "test", {}))
    settings = {"MODEL_STORE": str(store.root), "MODELS": '["cheap", "rich"]', "THREADS": "1"}
    with serving(settings) as running:
        yield running


def flops(server: Server, name: str) -> int:
    cost: int = server.client.get(f"/models/{name}").json()["exits"][0]["flops"]
    return cost


def ask(server: Server, image: bytes, **headers: str) -> tuple[str, int]:
    named = {"X-Model": "cifar10", **{key.replace("_", "-"): value for key, value in headers.items()}}
    answer = server.client.post("/classify", content=image, headers=named).json()
    return answer["model"], answer["flops"]


def test_under_a_limit_the_best_member_that_fits_answers(server: Server, png: Callable[[int], bytes]) -> None:
    cheap, rich = flops(server, "cheap"), flops(server, "rich")
    assert cheap < rich
    assert ask(server, png(0), X_FLOP_Limit=str(rich)) == ("rich", rich)
    assert ask(server, png(0), X_FLOP_Limit=str(rich - 1)) == ("cheap", cheap)
    refused = server.client.post(
        "/classify", content=png(0), headers={"X-Model": "cifar10", "X-FLOP-Limit": str(cheap - 1)}
    )
    assert refused.json()["code"] == "budget_too_small" and str(cheap) in refused.json()["detail"]


def test_under_a_mean_budget_members_take_turns_and_the_mean_is_met(
    server: Server, png: Callable[[int], bytes]
) -> None:
    cheap, rich = flops(server, "cheap"), flops(server, "rich")
    budget = round(0.7 * cheap + 0.3 * rich)
    spent, members = 0, Counter[str]()
    for number in range(200):
        name, cost = ask(server, png(number % 8), X_FLOP_Budget=str(budget))
        members[name] += 1
        spent += cost
        if number % 5 == 0:  # what cannot be answered takes no turn
            ask_broken = server.client.post(
                "/classify", content=b"no image", headers={"X-Model": "cifar10", "X-FLOP-Budget": str(budget)}
            )
            assert ask_broken.status_code == 415
    assert 58 <= members["rich"] <= 60
    assert 0.98 * budget < spent / 200 <= budget


def test_several_images_and_requests_without_a_budget_take_no_turns(
    server: Server, png: Callable[[int], bytes]
) -> None:
    cheap, rich = flops(server, "cheap"), flops(server, "rich")
    files = [("image", (f"{i}.png", png(i))) for i in range(4)]
    headers = {"X-Model": "cifar10", "X-FLOP-Budget": str((cheap + rich) // 2)}
    for _ in range(4):
        answer = server.client.post("/classify", files=files, headers=headers).json()
        assert answer["model"] == "cheap" and answer["flops"] == 4 * cheap
        assert ask(server, png(0)) == ("cheap", cheap)
