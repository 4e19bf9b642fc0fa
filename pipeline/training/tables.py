"""Tables of embeddings, features first, that an optimizer may look up in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, Self

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """Embeddings, a column each: in the place of nn.Embedding, whose embeddings are rows.

    On a CPU one feature of all of them lies together, on a GPU all features of one: see
    ``pipeline.training.layers``. ``lazy_adam`` moves only the columns that a step has looked up
    here.
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
            columns = columns_of(self.weight, places)
        return columns.view(-1, *indices.shape)

    def empty(self) -> None:
        """Hold no embeddings here: [width, 0], of as many as before."""
        self.weight.data = self.weight.new_empty(len(self.weight), 0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``to`` does: where it comes to lie says how."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.weight.data = laid_out(self.weight.detach())
        return self


def laid_out(columns: Tensor) -> Tensor:
    """Embeddings [width, n] as they are to lie in memory where they are."""
    on_cpu = columns.device.type == "cpu"
    return columns.contiguous() if on_cpu else columns.t().contiguous().t()


def columns_of(embeddings: Tensor, places: Tensor) -> Tensor:
    """Some columns of [width, n], of ``places`` [m], each perhaps several times: [width, m]."""
    if embeddings.device.type == "cpu":
        return embeddings.index_select(1, places)
    return embeddings.t().index_select(0, places).t()


class Modules(Protocol):
    """A network, as far as its modules go."""

    def modules(self) -> Iterator[nn.Module]: ...


def tables_of(network: Modules) -> list[Table]:
    """The tables of a network, each once."""
    return [part for part in network.modules() if isinstance(part, Table)]
