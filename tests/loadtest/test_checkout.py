"""The service of this checkout is started for a measurement and says what it did."""

from __future__ import annotations

import pytest

from loadtest.checkout import account, running
from loadtest.errors import LoadTestError
from loadtest.metrics_page import parse_page

PAGE = """
exitramp_images_total{model="a",exit="7"} 2
exitramp_images_total{model="a",exit="1"} 6
exitramp_images_total{model="b",exit="1"} 2
exitramp_flops_total{model="a",kind="charged"} 100
exitramp_flops_total{model="b",kind="charged"} 100
exitramp_flops_total{model="a",kind="executed"} 220
"""


def test_the_account_is_of_all_models_together() -> None:
    told = account(parse_page(PAGE))
    assert told == {
        "images": 10,
        "exits": {"1": 8, "7": 2},
        "charged_flops": 20.0,
        "executed_over_charged": 1.1,
    }


def test_a_service_that_did_nothing_has_no_means() -> None:
    told = account(parse_page(""))
    assert (told["images"], told["charged_flops"], told["executed_over_charged"]) == (0, None, None)


def test_a_service_that_cannot_start_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(LoadTestError, match="ended with exit code 1 before it was ready"),
        running({"EXITRAMP_MODELS": '["missing"]'}),
    ):
        pass
    assert "missing" in capfd.readouterr().err
