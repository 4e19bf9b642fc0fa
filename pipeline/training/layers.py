"""Building blocks that are quicker on a CPU than PyTorch's own, with the same results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Rows(torch.autograd.Function):
    """Rows of a table by index, with a gradient that is added up by rows.

    PyTorch's own dense embedding gradient takes twice the time on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.shape = table.shape
        return table.index_select(0, indices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (indices,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_add_(0, indices, gradient), None


def rows(table: Tensor, indices: Tensor) -> Tensor:
    """``table[indices]``, with the quick gradient; indices int64 [n], rows [n, columns]."""
    found: Tensor = _Rows.apply(table, indices)  # type: ignore[no-untyped-call]
    return found


def dropout(signal: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Dropout whose masks come from 16 random bits an entry, four entries to a draw.

    The probability is thereby rounded to a multiple of 2^-16.
    """
    if probability == 0:
        return signal
    count = signal.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=signal.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[:count]
    dropped = min(round(probability * 2**16), 2**16 - 1)  # of the 2**16 values of 16 bits
    kept = bits.view(signal.shape) >= dropped - 2**15
    return signal * (kept * (1 / (1 - probability)))
