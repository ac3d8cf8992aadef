"""Muon: equal steps in all directions, and norms that stay."""

from __future__ import annotations

import torch

from model_store import nets
from model_store.training.muon import COEFFICIENTS, ITERATIONS, Muon, orthogonalised
from model_store.training.optimizers import Optimizers
from model_store.training.recipes import RECIPES


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """The textbook iteration on the matrix itself."""
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm()
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def test_iterating_on_gram_matrices_is_iterating_on_the_matrices() -> None:
    torch.manual_seed(0)
    shapes = [(12, 40), (40, 12), (12, 108), (7, 7), (1, 9)]
    matrices = [torch.randn(shape) for shape in shapes]
    for matrix, found in zip(matrices, orthogonalised(matrices), strict=True):
        torch.testing.assert_close(found, newton_schulz(matrix), rtol=1e-3, atol=1e-4)


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    (found,) = orthogonalised([torch.randn(16, 64) * 100])
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_step_moves_by_the_rate_and_keeps_the_norm() -> None:
    torch.manual_seed(0)
    bank = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    muon = Muon([bank], lr=0.1, momentum=0.9)
    before = bank.detach().clone()
    bank.grad = torch.randn_like(bank) * 1e-4  # the scale of a gradient does not matter
    muon.step()
    torch.testing.assert_close(bank.norm(), torch.tensor(8.0**0.5))
    assert 0.05 < (bank - before).norm() / before.norm() < 0.15


def test_filter_banks_go_to_muon_and_all_else_to_sgd() -> None:
    recipe = RECIPES["cifar10-fusion"].model_copy(update={"optimizer": "muon"})
    net = nets.build("fusion", {"num_classes": 2, "channels": 8, "growth": 4, "layers_per_block": [1]})
    states = Optimizers(net, recipe).state_dict()
    counts = [sum(len(group["params"]) for group in state["param_groups"]) for state in states]
    banks = sum(p.ndim == 4 and p.shape[1] > 1 for p in net.parameters())
    assert counts == [len(list(net.parameters())) - banks, banks]
