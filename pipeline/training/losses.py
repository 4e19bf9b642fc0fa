"""Losses of one positive against sampled negatives, on logits.

Shapes: ``positive`` [B], ``negatives`` [N, B], ``weights`` [B] (confidence of each positive, mean 1
over the training interactions) or one for all. All return a scalar, the mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

LossName = Literal["bpr", "bpr_sigmoid", "bce", "softmax"]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def bpr(positive: Tensor, negatives: Tensor, weights: Tensor) -> Tensor:
    """-ln sigmoid(x_pos - x_neg), mean over negatives (Rendle et al., 2009, BPR-Opt)."""
    return (weights * softplus(negatives - positive).mean(0)).mean()


def bpr_sigmoid(positive: Tensor, negatives: Tensor, weights: Tensor) -> Tensor:
    """BPR on sigmoid outputs, as the notebook had it: margins in (-1, 1), loss above .3133."""
    return bpr(positive.sigmoid(), negatives.sigmoid(), weights)


def bce(positive: Tensor, negatives: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy with target 1 for the positive and 0 for negatives (He et al., 2017)."""
    total = (weights * softplus(-positive)).sum() + softplus(negatives).sum()
    return total / (positive.numel() + negatives.numel())


def softmax(positive: Tensor, negatives: Tensor, weights: Tensor) -> Tensor:
    """Sampled softmax: -ln(e^pos / (e^pos + sum e^neg)), negatives taken as drawn."""
    logits = torch.cat([positive[None], negatives])
    return (weights * (logits.logsumexp(0) - positive)).mean()


LOSSES: dict[LossName, Loss] = {
    "bpr": bpr,
    "bpr_sigmoid": bpr_sigmoid,
    "bce": bce,
    "softmax": softmax,
}
