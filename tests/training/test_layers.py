from __future__ import annotations

import math

import pytest
import torch

from pipeline.training.layers import keep

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
