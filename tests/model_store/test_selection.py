"""Which exits to consult: ties, second sets, and no belief in the luck of one set among many."""

from __future__ import annotations

import numpy as np
import pytest

from model_store.training import selection
from model_store.training.selection import SetCurves, best_single, choose_segments


def crafted(curves: dict[tuple[int, ...], list[float]], rows: int = 4000) -> SetCurves:
    """Curves with given accuracies, row by row without noise between the sets."""
    ranks = np.linspace(0, 1, rows, endpoint=False)
    order = np.random.default_rng(0).permutation(rows)
    table = np.array(
        [[ranks[order] < value for value in values] for values in curves.values()], dtype=np.float32
    )
    return SetCurves(tuple(curves), np.linspace(10e6, 20e6, table.shape[1]), table, rows // 2)


def test_fewer_exits_win_a_tie() -> None:
    curves = crafted({(0, 1, 2): [0.9, 0.93, 0.95], (0, 2): [0.9, 0.9299, 0.9499], (0, 1): [0.9, 0.91, 0.92]})
    assert best_single(curves).exits == ((0, 2),) == choose_segments(curves).exits


def test_a_second_set_is_used_only_where_it_gains_more_than_the_tolerance() -> None:
    worth_it = crafted({(0, 1): [0.9, 0.93, 0.93, 0.93], (0, 3): [0.9, 0.9, 0.95, 0.96]})
    choice = choose_segments(worth_it)
    assert choice.exits == ((0, 1), (0, 3)) and choice.starts[1] == worth_it.budgets[2]
    too_little = crafted({(0, 1): [0.9, 0.93, 0.93, 0.93], (0, 3): [0.9, 0.9, 0.9305, 0.9305]})
    assert choose_segments(too_little).exits == ((0, 1),)


def test_the_envelope_chooses_on_one_half_and_judges_on_the_other() -> None:
    random = np.random.default_rng(3)
    noise = (random.uniform(size=(100, 5, 2000)) < 0.9).astype(np.float32)
    curves = SetCurves(tuple((0, k) for k in range(100)), np.linspace(1e7, 2e7, 5), noise, 1000)
    assert curves.envelope().mean() == pytest.approx(0.9, abs=0.008)
    assert curves.accuracy().max(axis=0).mean() > 0.912  # what hindsight would promise


def test_every_set_of_exits_is_searched() -> None:
    assert len(selection.all_sets(7)) == len(set(selection.all_sets(7))) == 127


def test_averages_leave_out_the_budgets_where_no_set_rises_any_more() -> None:
    curves = crafted({(0, 1): [0.90, 0.92, 0.93, 0.93, 0.93], (0, 2): [0.89, 0.91, 0.935, 0.9352, 0.9353]})
    assert curves.rise == 3
    assert curves.cut(curves.rise).accuracy().shape == (2, 3)
