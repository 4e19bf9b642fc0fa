"""Losses of one positive against sampled negatives, on logits.

Shapes: ``logits`` [1 + N, B], the positives first; ``weights`` [B] (confidence of each positive,
mean 1 over the training interactions) or one for all. All return the mean over the batch, a scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pipeline.errors import UserError
from pipeline.own import find, is_own

Loss = Callable[[Tensor, Tensor], Tensor]


def bpr(logits: Tensor, weights: Tensor) -> Tensor:
    """-ln sigmoid(x_pos - x_neg), mean over negatives (Rendle et al., 2009, BPR-Opt)."""
    positives, negatives = _apart(logits)
    return (weights * softplus(negatives - positives)).mean()


def bpr_sigmoid(logits: Tensor, weights: Tensor) -> Tensor:
    """BPR on sigmoid outputs, as the notebook had it: margins in (-1, 1), loss above .3133."""
    return bpr(logits.sigmoid(), weights)


def bce(logits: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy with target 1 for the positive and 0 for negatives (He et al., 2017)."""
    positives, negatives = _apart(logits)
    total = (weights * softplus(-positives)).sum() + softplus(negatives).sum()
    return total / logits.numel()


def softmax(logits: Tensor, weights: Tensor) -> Tensor:
    """Sampled softmax: -ln(e^pos / (e^pos + sum e^neg)), negatives taken as drawn."""
    return -(weights * logits.log_softmax(0)[0]).mean()


def _apart(logits: Tensor) -> tuple[Tensor, ...]:
    """Positives [1, B] and negatives [N, B]; cheaper on the way back than two slices."""
    return torch.split(logits, [1, len(logits) - 1])


LOSSES: dict[str, Loss] = {
    "bpr": bpr,
    "bpr_sigmoid": bpr_sigmoid,
    "bce": bce,
    "softmax": softmax,
}


def find_loss(name: str) -> Loss:
    """The loss called ``name``, or one's own by its import path.

    Raises:
        UserError: there is no such loss.
    """
    if is_own(name):
        own: Loss = find(name, "loss", lambda each: callable(each) and not isinstance(each, type))
        return own
    if name not in LOSSES:
        raise UserError(
            f"loss={name}: expected {', '.join(LOSSES)}, or one's own, as in my_file.py:hinge."
        )
    return LOSSES[name]
