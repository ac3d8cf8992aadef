"""What models take and give, as the Open Inference Protocol describes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.engine.ticket import Prediction
from service.engine.times import NO_TIME
from service.routes.v2.models import pinned
from service.routes.v2.outputs import best
from service.routes.v2.tensors import input_of, outputs_of


def model(height: int, width: int) -> Any:
    spec = SimpleNamespace(height=height, width=width)
    return SimpleNamespace(manifest=SimpleNamespace(input=spec, classes=("a", "b", "c")))


def test_a_size_in_which_the_models_of_a_task_differ_is_open() -> None:
    assert input_of([model(32, 32)]).dims == (32, 32, 3)
    assert input_of([model(32, 32), model(32, 32)]).dims == (32, 32, 3)
    assert input_of([model(32, 32), model(48, 32)]).dims == (-1, 32, 3)
    assert outputs_of([model(32, 32), model(48, 32)])[0].dims == (3,)


@pytest.mark.parametrize(
    ("name", "version", "key"),
    [("a", "1", "a@1"), ("a@1", "1", "a@1"), ("a@1", "2", "a@1@2"), ("a@11", "1", "a@11@1")],
)
def test_a_name_with_a_version_must_have_the_one_of_the_address(name: str, version: str, key: str) -> None:
    assert pinned(name, version) == key


def test_classes_that_are_equally_probable_keep_the_order_of_classify() -> None:
    values = np.array([0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32)
    prediction = Prediction(
        classes=(1, 7, 6, 5, 4),
        probabilities=tuple(values[[1, 7, 6, 5, 4]].tolist()),
        exit=1,
        flops=1,
        queue_s=0.0,
        times=NO_TIME,
        decided_s=0.0,
        distribution=values,
    )
    order = [1, 7, 6, 5, 4, 0, 2, 3]
    for count in range(1, 9):
        texts = best(prediction, count, "abcdefgh")
        assert texts == [f"{values[i]:.6f}:{i}:{'abcdefgh'[i]}" for i in order[:count]]
