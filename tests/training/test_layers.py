from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.training.layers import dropout, rows


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("indices", [[1, 1, 0, 1, 3], [2], []])
def test_the_gradient_of_rows_is_that_of_an_embedding(indices: list[int]) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.randn(5, 3).requires_grad_() for _ in range(2))
    theirs.data.copy_(ours.data)
    places = torch.tensor(indices, dtype=torch.int64)
    outward = torch.randn(len(indices), 3)
    found = rows(ours, places)
    torch.testing.assert_close(found, nn.functional.embedding(places, theirs))
    found.backward(outward)
    nn.functional.embedding(places, theirs).backward(outward)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("probability", [0.1, 0.4, 0.75])
def test_dropout_keeps_its_share_and_the_mean(probability: float) -> None:
    signal = torch.full((1000, 333), 2.0)
    dropped = dropout(signal, probability, seeded())
    kept = dropped != 0
    # Three standard deviations of a share of 333,000 draws.
    tolerance = 3 * math.sqrt(probability * (1 - probability) / 333_000)
    assert float(kept.float().mean()) == pytest.approx(1 - probability, abs=tolerance)
    assert dropped[kept].unique().tolist() == pytest.approx([2 / (1 - probability)])


def test_dropout_draws_every_entry_for_itself() -> None:
    kept = (dropout(torch.ones(100_000, 4), 0.5, seeded()) != 0).float()
    together = torch.corrcoef(kept.T)
    torch.testing.assert_close(together, torch.eye(4), rtol=0, atol=0.015)


def test_dropout_goes_by_its_generator() -> None:
    signal, generator = torch.ones(50), seeded()
    first, second = (dropout(signal, 0.4, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, dropout(signal, 0.4, seeded()))


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 1), (2, 3, 7)])
def test_dropout_of_any_shape(shape: tuple[int, ...]) -> None:
    assert dropout(torch.ones(shape), 0.4, seeded()).shape == shape


def test_without_dropout_the_signal_stays() -> None:
    signal = torch.randn(5)
    assert dropout(signal, 0.0, seeded()) is signal


def test_the_gradient_of_dropout_is_its_mask() -> None:
    signal = torch.randn(1000).requires_grad_()
    dropped = dropout(signal, 0.4, seeded())
    dropped.sum().backward()
    torch.testing.assert_close(signal.grad * signal, dropped)
