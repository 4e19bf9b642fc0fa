"""Pieces of networks whose signals are features first: [width, n], a column for each sample.

Where their numbers lie in memory is another matter, and theirs alone. On a CPU a feature of all
samples lies together, so that every operation runs over long rows. On a GPU all features of a
sample do, so that a look-up fetches an embedding at once (on an H100 a third to two thirds of the
time, and so its gradient) and products find tensor cores whatever the number of samples (a third
of the time where that is odd). What does not care is written as ever; what would turn a signal
over is here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear


def by_samples(signal: Tensor) -> bool:
    """Whether all features of a sample of [width, ...] lie together."""
    return signal.stride(0) == 1 and signal.stride(-1) != 1


def split(signal: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    """Views of [sum of widths, ...], each of so many features, some of which may be empty."""
    if by_samples(signal):
        parts = torch.split(signal.movedim(0, -1), list(widths), dim=-1)
        return [part.movedim(-1, 0) for part in parts]
    return torch.split(signal, list(widths))


def spread(signal: Tensor, times: int) -> Tensor:
    """[width, n] for each of so many candidates, a view [width, times, n]."""
    if by_samples(signal):
        return signal.t().expand(times, -1, -1).movedim(-1, 0)
    return signal[:, None].expand(-1, times, -1)


def joined(signals: Sequence[Tensor]) -> Tensor:
    """Signals [width, ...] of the same samples as one of all their features."""
    if all(by_samples(signal) for signal in signals):
        return torch.cat([signal.movedim(0, -1) for signal in signals], dim=-1).movedim(-1, 0)
    return torch.cat(list(signals))


def hidden(
    weight: Tensor,
    bias: Tensor,
    signal: Tensor,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """relu(W x + b) of ``signal`` [fan_in, n], [fan_out, n], less what ``dropout`` takes of it.

    It is taken before relu, which answers 0 to it, so that relu's gradient is that of both and no
    mask has to be kept and multiplied with on the way back.
    """
    samples_first = by_samples(signal)
    if samples_first:
        made = linear(signal.t(), weight, bias)
    else:
        made = torch.addmm(bias[:, None], weight, signal)
    if dropout:
        with torch.no_grad():
            made.mul_(keep(made, dropout, generator))
    made = made.relu_()
    return made.t() if samples_first else made


def keep(like: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """What dropout keeps: 0 with ``probability``, else 1, in the shape and type of ``like``.

    On a CPU it comes from 16 random bits an entry, four entries to a draw, which is quicker than
    PyTorch's own: the probability is thereby rounded to a multiple of 2^-16. A GPU draws in one
    pass over the mask what takes three so, and passes over memory are what it waits for.
    """
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_(1 - probability, generator=generator)
    count = like.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[:count]
    dropped = min(round(probability * 2**16), 2**16 - 1)  # of the 2**16 values of 16 bits
    # Compared as floats, since booleans take ten times as long to multiply with, and as floats that
    # tell 16 bits apart.
    wide = torch.promote_types(like.dtype, torch.float32)
    return bits.view(like.shape).to(wide).ge_(dropped - 2**15).to(like.dtype)
