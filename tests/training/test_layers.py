from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.training.layers import by_samples, hidden, joined, keep, split, spread

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def seeded(device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.4, 0.75])
def test_dropout_keeps_its_share(probability: float, dtype: torch.dtype, device: str) -> None:
    signal = torch.empty(1000, 333, dtype=dtype, device=device)
    kept = keep(signal, probability, seeded(device)).float()
    assert kept.unique().tolist() == [0, 1]
    # Three standard deviations of a share of 333,000 draws.
    tolerance = 3 * math.sqrt(probability * (1 - probability) / 333_000)
    assert float(kept.mean()) == pytest.approx(1 - probability, abs=tolerance)


def test_dropout_draws_every_entry_for_itself() -> None:
    together = torch.corrcoef(keep(torch.empty(100_000, 4), 0.5, seeded()).T)
    torch.testing.assert_close(together, torch.eye(4), rtol=0, atol=0.015)


def test_dropout_in_fewer_bits_keeps_the_same() -> None:
    whole, half = (
        keep(torch.empty(333_333, dtype=dtype), 0.3, seeded())
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(whole, half.float())


@pytest.mark.parametrize("device", DEVICES)
def test_dropout_goes_by_its_generator(device: str) -> None:
    signal, generator = torch.empty(50, device=device), seeded(device)
    first, second = (keep(signal, 0.4, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, keep(signal, 0.4, seeded(device)))


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 1), (2, 3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_has_the_shape_and_type_of_the_signal(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    for device in ("cpu", "meta"):
        kept = keep(torch.empty(shape, dtype=dtype, device=device), 0.4, seeded())
        assert (kept.shape, kept.dtype, kept.device.type) == (shape, dtype, device)


def turned(signal: Tensor) -> Tensor:
    """The same with all features of a sample together, as on a GPU."""
    return signal.movedim(0, -1).contiguous().movedim(-1, 0)


def test_signals_lie_as_they_lie() -> None:
    signal = torch.randn(3, 5, 7)
    assert not by_samples(signal)
    assert by_samples(turned(signal))
    assert torch.equal(turned(signal), signal)


WEIGHT, BIAS = torch.randn(4, 6, generator=seeded()), torch.randn(4, generator=seeded())


@pytest.mark.parametrize(
    "function",
    [
        lambda signal: split(signal, (2, 0, 4))[2],
        lambda signal: spread(signal, 3),
        lambda signal: joined([signal, 2 * signal]),
        lambda signal: joined([spread(signal, 3), spread(signal.square(), 3)]),
        lambda signal: hidden(WEIGHT, BIAS, signal),
    ],
    ids=["split", "spread", "joined", "joined, spread", "hidden"],
)
def test_layers_do_the_same_however_signals_lie_and_leave_them_so(
    function: Callable[[Tensor], Tensor],
) -> None:
    ours, results = torch.randn(6, 5), []
    for signal in (ours, turned(ours)):
        signal.requires_grad_()
        made = function(signal)
        slopes = torch.linspace(-1, 1, made.numel()).view(made.shape)
        given = turned(slopes) if by_samples(made) else slopes
        (gradient,) = torch.autograd.grad(made, signal, given)
        results.append((made, gradient))
    (one, slope), (other, other_slope) = results
    torch.testing.assert_close(other, one)
    torch.testing.assert_close(other_slope, slope)
    assert not by_samples(one)
    assert by_samples(other)
    assert by_samples(other_slope)


@pytest.mark.parametrize("lying", [lambda signal: signal, turned], ids=["features", "samples"])
def test_what_dropout_takes_of_a_layer_is_taken_of_its_gradient(
    lying: Callable[[Tensor], Tensor],
) -> None:
    signal = lying(torch.randn(6, 500)).requires_grad_()
    made = hidden(WEIGHT, BIAS, signal, 0.4, seeded())
    whole = hidden(WEIGHT, BIAS, signal)
    kept = made != 0
    assert torch.equal(made, whole * kept)
    (slope,) = torch.autograd.grad(made.sum(), signal)
    (expected,) = torch.autograd.grad((whole * kept).sum(), signal)
    torch.testing.assert_close(slope, expected)
    share = float(kept.sum() / (whole > 0).sum())
    assert share == pytest.approx(0.6, abs=0.06)  # three standard deviations of some 900 draws
