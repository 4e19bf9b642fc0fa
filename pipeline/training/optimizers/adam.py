"""Adam (Kingma and Ba 2015) without torch's Optimizer.

torch.optim.Adam imports torch's compiler when it is made: 1.4 s of every process that trains,
for nothing that is used here. The arithmetic is torch's own fused kernel, called as it stands: what
torch does around it in every step takes longer than the kernel where parameters are few and small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.training.processes import share, summed

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # the paper's, and torch's


class Adam:
    """Steps of parameters along their gradients, on whatever device these are."""

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float = 0.0
    ) -> None:
        """
        Args:
            parameters: floating, all on one device.
            weight_decay: times a parameter is added to its gradient.
        """
        self.parameters = list(parameters)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.means = [torch.zeros_like(each) for each in self.parameters]
        self.squares = [torch.zeros_like(each) for each in self.parameters]
        places = range(len(self.parameters))
        self.alike = [
            [place for place in places if self.parameters[place].dtype == dtype]
            for dtype in dict.fromkeys(each.dtype for each in self.parameters)
        ]
        """Places of parameters of one type: the kernel takes no others at once on a GPU."""
        device = self.parameters[0].device if self.parameters else None
        self.number = torch.zeros((), device=device)
        """Of the last step; on the device, so that a CUDA graph can hold it."""

    def share(self) -> None:
        """Take the parameters and moments that the first of several processes has."""
        share([*self.parameters, *self.means, *self.squares, self.number])

    @property
    def held(self) -> list[Tensor]:
        """All that is learned."""
        return self.parameters

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Have all parameters in the network for a ``with`` block: they always are."""
        yield

    def begin(self) -> None:
        """Begin a step; there is nothing to do."""

    def require_looked_up(self, objective: Tensor) -> None:
        """Nothing is asked of a network: what it uses has a gradient."""

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move every parameter, given the gradient of each."""
        self.number += 1
        given = [_lying_as(*pair) for pair in zip(self.parameters, gradients, strict=True)]
        for places in self.alike:
            torch._fused_adam_(
                [self.parameters[place] for place in places],
                [given[place] for place in places],
                [self.means[place] for place in places],
                [self.squares[place] for place in places],
                [],
                [self.number] * len(places),
                lr=self.learning_rate,
                beta1=BETA_1,
                beta2=BETA_2,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def renew(self) -> None:
        """Nothing has to be done between steps."""

    def gather(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """What ``step`` takes of processes that train together, of the gradients of each."""
        return summed(gradients)

    def state_dict(self) -> dict[str, Any]:
        """Moments and steps by a parameter's place, as torch.optim.Adam calls them."""
        return {
            "state": {
                place: {"step": self.number, "exp_avg": mean, "exp_avg_sq": square}
                for place, (mean, square) in enumerate(zip(self.means, self.squares, strict=True))
            }
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of what ``state_dict`` gave, on whatever device that was.

        Raises:
            ValueError: it has other parameters.
            KeyError: it lacks something.
        """
        load_moments(self.state_dict(), state)

    def release(self) -> None:
        """Nothing of the network's is held here."""


def _lying_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """A gradient whose numbers lie in the order of the parameter's: so the kernel takes them."""
    if gradient.is_sparse:  # as of nn.Embedding(sparse=True)
        gradient = gradient.to_dense()
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def load_moments(ours: dict[str, Any], state: dict[str, Any]) -> None:
    """Copy ``state`` into the tensors of ``ours``, which is a state as well.

    Raises:
        ValueError: it has other parameters, or other moments of one.
        KeyError: it lacks something.
    """
    saved, kept = state["state"], ours["state"]
    if set(saved) != set(kept):
        raise ValueError(f"{len(saved)} parameters have moments, not {len(kept)}")
    for place, of_parameter in kept.items():
        if set(saved[place]) != set(of_parameter):
            raise ValueError(f"moments are {', '.join(saved[place])}")
        for name, tensor in of_parameter.items():
            value = saved[place][name]
            if value.shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}")
            tensor.copy_(value)
