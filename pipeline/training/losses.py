"""Losses of one positive against sampled negatives, on logits, each with its gradient.

Shapes: ``logits`` [1 + N, B], the positives first; ``weights`` [B] (confidence of each positive,
mean 1 over the training interactions) or one for all. All return the mean over the batch, a scalar,
and its gradient for the logits, [1 + N, B]; autograd would take three times as long for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

LossName = Literal["bpr", "bpr_sigmoid", "bce", "softmax"]
Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def bpr(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """-ln sigmoid(x_pos - x_neg), mean over negatives (Rendle et al., 2009, BPR-Opt)."""
    margins = logits[1:] - logits[0]
    loss = (weights * softplus(margins).mean(0)).mean()
    slope = margins.sigmoid().mul_(weights / margins.numel())
    return loss, torch.cat([-slope.sum(0, keepdim=True), slope])


def bpr_sigmoid(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """BPR on sigmoid outputs, as the notebook had it: margins in (-1, 1), loss above .3133."""
    outputs = logits.sigmoid()
    loss, slope = bpr(outputs, weights)
    return loss, slope.mul_(outputs).mul_(1 - outputs)


def bce(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy with target 1 for the positive and 0 for negatives (He et al., 2017)."""
    total = (weights * softplus(-logits[0])).sum() + softplus(logits[1:]).sum()
    slope = logits.sigmoid()
    slope[0].sub_(1).mul_(weights)
    return total / logits.numel(), slope.div_(logits.numel())


def softmax(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sampled softmax: -ln(e^pos / (e^pos + sum e^neg)), negatives taken as drawn."""
    total = logits.logsumexp(0)
    loss = (weights * (total - logits[0])).mean()
    slope = (logits - total).exp_()
    slope[0].sub_(1)
    return loss, slope.mul_(weights / logits.shape[1])


LOSSES: dict[LossName, Loss] = {
    "bpr": bpr,
    "bpr_sigmoid": bpr_sigmoid,
    "bce": bce,
    "softmax": softmax,
}
