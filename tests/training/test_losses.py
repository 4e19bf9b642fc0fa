from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pipeline.training.losses import LOSSES

FLOOR = math.log1p(math.exp(-1))  # .3133: the margin of two sigmoids is below 1
LOGITS = st.floats(-50, 50, width=32, allow_subnormal=False)
ONE = torch.tensor(1.0)


def batch(size: int = 6, negatives: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1 + negatives, size, generator=generator)
    return logits, torch.rand(size, generator=generator) + 0.5


def value(name: str, logits: Tensor | list[list[float]], weights: Tensor = ONE) -> float:
    loss = LOSSES[name](torch.as_tensor(logits), weights)
    assert loss.shape == ()
    return float(loss)


def test_bpr_by_hand() -> None:
    # ln(1 + e^-(1 - 0)) = .3133 and ln(1 + e^-(2 - 5)) = 3.0486
    logits = [[1.0, 2.0], [0.0, 5.0]]
    assert value("bpr", logits) == pytest.approx((0.313262 + 3.048587) / 2)
    expected = (1.5 * 0.313262 + 0.5 * 3.048587) / 2
    assert value("bpr", logits, torch.tensor([1.5, 0.5])) == pytest.approx(expected, rel=1e-6)


def test_bpr_of_equal_scores_is_ln_2() -> None:
    assert value("bpr", torch.zeros(3, 4)) == pytest.approx(math.log(2))


def test_bpr_is_the_mean_over_negatives() -> None:
    logits, weights = batch()
    each = -functional.logsigmoid(logits[0] - logits[1:])
    assert value("bpr", logits, weights) == pytest.approx(float((weights * each).mean()))


def test_bpr_sigmoid_by_hand() -> None:
    # sigmoid(0) - sigmoid(ln 3) = .5 - .75, and ln(1 + e^.25) = .825939
    assert value("bpr_sigmoid", [[0.0], [math.log(3)]]) == pytest.approx(0.825939, rel=1e-5)


def test_bpr_sigmoid_cannot_fall_below_its_floor() -> None:
    perfect = [[100.0], [-100.0]]
    assert value("bpr_sigmoid", perfect) == pytest.approx(FLOOR)
    assert pytest.approx(0.3133, abs=5e-5) == FLOOR
    assert value("bpr", perfect) == pytest.approx(0, abs=1e-6)


@given(LOGITS, LOGITS)
def test_bpr_sigmoid_lies_between_its_floor_and_one_more(positive: float, negative: float) -> None:
    found = value("bpr_sigmoid", [[positive], [negative]])
    assert FLOOR - 1e-6 <= found <= FLOOR + 1 + 1e-6


def test_bce_by_hand() -> None:
    # -ln sigmoid(0) = .693147, -ln(1 - sigmoid(ln 3)) = ln 4 = 1.386294, and again at weight 2
    logits = [[0.0, 0.0], [math.log(3)] * 2]
    assert value("bce", logits) == pytest.approx((0.693147 + 0.693147 + 1.386294 + 1.386294) / 4)
    expected = (2 * 0.693147 + 0.693147 + 1.386294 + 1.386294) / 4  # of the positives alone
    assert value("bce", logits, torch.tensor([2.0, 1.0])) == pytest.approx(expected)


def test_bce_is_that_of_torch_over_positives_and_negatives() -> None:
    logits, weights = batch()
    targets, each = torch.zeros_like(logits), torch.ones_like(logits)
    targets[0], each[0] = 1, weights
    expected = functional.binary_cross_entropy_with_logits(logits, targets, each)
    assert value("bce", logits, weights) == pytest.approx(float(expected))


def test_softmax_by_hand() -> None:
    # e^0 among e^0, e^0 and e^ln 2: -ln(1 / 4)
    assert value("softmax", [[0.0], [0.0], [math.log(2)]]) == pytest.approx(math.log(4))


def test_softmax_is_the_cross_entropy_of_torch() -> None:
    logits, weights = batch()
    first = torch.zeros(6, dtype=torch.int64)
    each = functional.cross_entropy(logits.T, first, reduction="none")
    assert value("softmax", logits, weights) == pytest.approx(float((weights * each).mean()))


def test_softmax_with_one_negative_is_bpr() -> None:
    logits, weights = batch(negatives=1)
    assert value("softmax", logits, weights) == pytest.approx(value("bpr", logits, weights))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_at_any_logit_and_so_is_its_gradient(name: str) -> None:
    extremes = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4])
    logits = torch.stack([extremes.repeat(5), extremes.repeat_interleave(5)]).requires_grad_()
    before = logits.detach().clone()
    loss = LOSSES[name](logits, ONE)
    (slope,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()
    assert torch.equal(logits, before)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_as_the_positive_rises_and_the_negative_falls(name: str) -> None:
    logits, weights = batch()
    here = value(name, logits, weights)
    for rows, by in ((slice(0, 1), 0.1), (slice(1, None), -0.1)):
        moved = logits.clone()
        moved[rows] += by
        assert value(name, moved, weights) < here


@pytest.mark.parametrize("name", LOSSES)
def test_one_weight_for_all_is_that_weight_for_each(name: str) -> None:
    logits, _ = batch()
    each = value(name, logits, torch.full((6,), 1.5))
    assert value(name, logits, torch.tensor(1.5)) == pytest.approx(each)
