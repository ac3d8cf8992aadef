"""Models of one task over HTTP: limits, turns under a mean budget, requests of several images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import CLASSES, SPEC
from live import Server, serving

from model_store import nets
from model_store.store import Store
from model_store.training.imports import Imported, describe, uncalibrated_policy

ROOT = Path(__file__).resolve().parents[2]

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


def test_a_sweep_holds_the_family_against_its_members(
    server: Server, png: Callable[[int], bytes], tmp_path: Path
) -> None:
    rows = [{"image": {"bytes": png(i)}, "label": i % 10} for i in range(40)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "test-0.parquet")
    cheap, rich = flops(server, "cheap"), flops(server, "rich")
    sweep = [sys.executable, "-m", "loadtest.family", "--url", server.url, "--task", "cifar10"]
    sweep += ["--data", str(tmp_path), "--budgets", str(cheap), str(rich), "--plot", str(tmp_path / "f.png")]
    done = subprocess.run(sweep, capture_output=True, text=True, timeout=300, cwd=ROOT)
    report = json.loads(done.stdout)
    asked = {(one["target"], one["budget"]): one for one in report["results"]}
    assert asked.keys() == {
        ("cifar10", cheap),
        ("cifar10", rich),
        ("cheap", cheap),
        ("cheap", rich),
        ("rich", rich),
    }
    assert asked["cifar10", cheap]["answered_by"] == {"cheap": 40}
    assert asked["cifar10", rich]["answered_by"] == {"rich": 40}
    for one in report["against"]:
        budget = one["budget"]
        gain = asked["cifar10", budget]["accuracy"] - asked[one["member"], budget]["accuracy"]
        assert one["gain"] == pytest.approx(gain) and one["standard_error"] >= 0
    behind = any(one["gain"] < -2 * one["standard_error"] for one in report["against"])
    assert done.returncode == behind and (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
