"""What an exit says on the host is what ``exits.read`` says."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from model_store import exits
from service.engine.reading import read_rows


@pytest.mark.parametrize("measure", get_args(exits.Confidence))
@pytest.mark.parametrize("classes", [1, 2, 4, 10, 100, 1000])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("whole", [False, True])
def test_rows_read_on_the_host_are_those_that_torch_reads(
    measure: exits.Confidence, classes: int, temperature: float, whole: bool
) -> None:
    logits = torch.randn(9, classes, generator=torch.Generator().manual_seed(classes)) * 4
    expected = exits.read(logits, measure, temperature, whole).numpy()
    found = read_rows(logits.numpy(), measure, temperature, whole)
    assert found.dtype == np.float32 and found.shape == expected.shape
    top = min(exits.TOP, classes)
    assert np.array_equal(found[:, 1 + top : 1 + 2 * top], expected[:, 1 + top : 1 + 2 * top])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_logits_that_are_not_finite_stay_visible() -> None:
    logits = np.zeros((2, 10), np.float32)
    logits[1, 3] = np.nan
    assert not np.isfinite(read_rows(logits, "probability")[1]).all()


def test_huge_logits_do_not_overflow() -> None:
    logits = np.full((1, 10), 1e30, np.float32)
    logits[0, 7] = 2e30
    table = read_rows(logits, "probability")
    assert np.isfinite(table).all() and table[0, 6] == 7
