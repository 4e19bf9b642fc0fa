"""Tables of embeddings, features first, that an optimizer may look up in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """Embeddings, a column each: in the place of nn.Embedding, whose embeddings are rows.

    One feature of all that is looked up lies together, so that a step's operations run over long
    rows. ``lazy_adam`` moves only the columns that a step has looked up here.
    """

    weight: nn.Parameter
    """[width, n]; in processes that have some of its rows each, [width, 0] while they train."""
    n: int
    """Embeddings."""
    look_up: Callable[[Tensor], Tensor] | None = None
    """Indices [m] to columns [width, m], where training does not go by ``weight``'s gradient."""

    def __init__(self, columns: Tensor) -> None:
        """``columns``: the start, floating [width, n]."""
        super().__init__()
        self.weight, self.n = nn.Parameter(columns.contiguous()), columns.shape[1]

    def forward(self, indices: Tensor) -> Tensor:
        """The columns of ``indices``, int64 [...]: [width, ...]."""
        places = indices.flatten()
        if self.look_up is not None and torch.is_grad_enabled():
            columns = self.look_up(places)
        else:
            columns = self.weight.index_select(1, places)
        return columns.view(-1, *indices.shape)


class Modules(Protocol):
    """A network, as far as its modules go."""

    def modules(self) -> Iterator[nn.Module]: ...


def tables_of(network: Modules) -> list[Table]:
    """The tables of a network, each once."""
    return [part for part in network.modules() if isinstance(part, Table)]
