from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pipeline.training.losses import LOSSES, bce, bpr, bpr_sigmoid, softmax

FLOOR = math.log1p(math.exp(-1))  # .3133: the margin of two sigmoids is below 1
LOGITS = st.floats(-50, 50, width=32, allow_subnormal=False)


def ones(count: int) -> Tensor:
    return torch.ones(count)


def batch(size: int = 6, negatives: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(size, generator=generator)
    weights = torch.rand(size, generator=generator) + 0.5
    return positive, torch.randn(negatives, size, generator=generator), weights


def value(loss: Tensor) -> float:
    assert loss.shape == ()
    return float(loss)


def test_bpr_by_hand() -> None:
    # ln(1 + e^-(1 - 0)) = .3133 and ln(1 + e^-(2 - 5)) = 3.0486
    positive, negatives = torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 5.0]])
    assert value(bpr(positive, negatives, ones(2))) == pytest.approx((0.313262 + 3.048587) / 2)
    weights = torch.tensor([1.5, 0.5])
    expected = (1.5 * 0.313262 + 0.5 * 3.048587) / 2
    assert value(bpr(positive, negatives, weights)) == pytest.approx(expected, rel=1e-6)


def test_bpr_of_equal_scores_is_ln_2() -> None:
    assert value(bpr(torch.zeros(4), torch.zeros(2, 4), ones(4))) == pytest.approx(math.log(2))


def test_bpr_is_the_mean_over_negatives() -> None:
    positive, negatives, weights = batch()
    each = -functional.logsigmoid(positive - negatives)
    expected = float((weights * each).mean())
    assert value(bpr(positive, negatives, weights)) == pytest.approx(expected)


def test_bpr_sigmoid_by_hand() -> None:
    # sigmoid(0) - sigmoid(ln 3) = .5 - .75, and ln(1 + e^.25) = .825939
    found = bpr_sigmoid(torch.zeros(1), torch.tensor([[math.log(3)]]), ones(1))
    assert value(found) == pytest.approx(0.825939, rel=1e-5)


def test_bpr_sigmoid_cannot_fall_below_its_floor() -> None:
    perfect = torch.tensor([100.0]), torch.tensor([[-100.0]]), ones(1)
    assert value(bpr_sigmoid(*perfect)) == pytest.approx(FLOOR) == pytest.approx(0.3133, abs=5e-5)
    assert value(bpr(*perfect)) == pytest.approx(0, abs=1e-6)


@given(LOGITS, LOGITS)
def test_bpr_sigmoid_lies_between_its_floor_and_one_more(positive: float, negative: float) -> None:
    found = value(bpr_sigmoid(torch.tensor([positive]), torch.tensor([[negative]]), ones(1)))
    assert FLOOR - 1e-6 <= found <= FLOOR + 1 + 1e-6


def test_bce_by_hand() -> None:
    # -ln sigmoid(0) = .693147, -ln(1 - sigmoid(ln 3)) = ln 4 = 1.386294, and again at weight 2
    positive, negatives = torch.zeros(2), torch.full((1, 2), math.log(3))
    expected = (0.693147 + 0.693147 + 1.386294 + 1.386294) / 4
    assert value(bce(positive, negatives, ones(2))) == pytest.approx(expected)
    weights = torch.tensor([2.0, 1.0])  # of the positives alone
    expected = (2 * 0.693147 + 0.693147 + 1.386294 + 1.386294) / 4
    assert value(bce(positive, negatives, weights)) == pytest.approx(expected)


def test_bce_is_that_of_torch_over_positives_and_negatives() -> None:
    positive, negatives, weights = batch()
    logits = torch.cat([positive[None], negatives])
    targets = torch.zeros_like(logits)
    targets[0] = 1
    each = torch.ones_like(logits)
    each[0] = weights
    expected = functional.binary_cross_entropy_with_logits(logits, targets, each)
    assert value(bce(positive, negatives, weights)) == pytest.approx(float(expected))


def test_softmax_by_hand() -> None:
    # e^0 among e^0, e^0 and e^ln 2: -ln(1 / 4)
    found = softmax(torch.zeros(1), torch.tensor([[0.0], [math.log(2)]]), ones(1))
    assert value(found) == pytest.approx(math.log(4))


def test_softmax_is_the_cross_entropy_of_torch() -> None:
    positive, negatives, weights = batch()
    logits = torch.cat([positive[None], negatives]).T
    each = functional.cross_entropy(logits, torch.zeros(6, dtype=torch.int64), reduction="none")
    expected = float((weights * each).mean())
    assert value(softmax(positive, negatives, weights)) == pytest.approx(expected)


def test_softmax_with_one_negative_is_bpr() -> None:
    positive, negatives, weights = batch(negatives=1)
    expected = value(bpr(positive, negatives, weights))
    assert value(softmax(positive, negatives, weights)) == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_at_any_logit_and_so_is_its_gradient(name: str) -> None:
    extremes = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4])
    positive, negatives = (extremes.repeat(5), extremes.repeat_interleave(5)[None])
    positive.requires_grad_()
    loss = LOSSES[name](positive, negatives, ones(25))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(positive.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_as_the_positive_rises_and_the_negative_falls(name: str) -> None:
    positive, negatives, weights = batch()
    here = value(LOSSES[name](positive, negatives, weights))
    assert value(LOSSES[name](positive + 0.1, negatives, weights)) < here
    assert value(LOSSES[name](positive, negatives - 0.1, weights)) < here


@pytest.mark.parametrize("name", LOSSES)
def test_one_weight_for_all_is_that_weight_for_each(name: str) -> None:
    positive, negatives, _ = batch()
    each = value(LOSSES[name](positive, negatives, torch.full((6,), 1.5)))
    assert value(LOSSES[name](positive, negatives, torch.tensor(1.5))) == pytest.approx(each)
