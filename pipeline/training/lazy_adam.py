"""Adam that touches only the embeddings that a step has used.

A step of Adam reads and writes every parameter with both of its moments. Where tables are large
against a batch, nearly all of that is for embeddings without a gradient: their second moments
decay, and the first moments go on moving them for some twenty steps, most of them long before they
are used again. Here a gradient has that whole effect at once: tables are moved by Adam with
beta_1 = 0, by which an embedding without a gradient stays where it is, and its second moment decays
by a power of beta_2 that is made up when it is used again. What comes of it is, but for rounding,
torch.optim.Adam(betas=(0, 0.999)) on all embeddings. Everything else is moved by Adam as it is.

torch.optim.SparseAdam and FBGEMM's row-wise Adam leave the moments of unused embeddings as they
are, so that one that is in the share p of the batches moves by about sqrt(p) of what it would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.training.adam import BETA_2, EPSILON, Adam, load_moments
from pipeline.training.method import Method
from pipeline.training.processes import gathered, summed
from pipeline.training.tables import Table

LOG_BETA_2 = math.log(BETA_2)
# From how many numbers in tables on this is quicker on a CPU: some, since a step has more
# operations, and some for each number that it looks up. Measured with 5,000 to 80,000 embeddings of
# 16 and of 64 numbers, and batches of 64 to 2,048.
LARGE, FOR_EACH = 400_000, 6


class Parts(Protocol):
    """What an optimizer has to know of a module."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...


def make_optimizer(network: Parts, method: Method) -> Adam | LazyAdam:
    """The optimizer that ``method`` names; ``auto`` is lazy_adam where tables are LARGE.

    Weight decay moves every embedding in every step: ``auto`` is then adam.

    Raises:
        UserError: lazy_adam is wanted and there is weight decay, or no table.
    """
    tables = [part for part in network.modules() if isinstance(part, Table)]
    width = max((len(table.weight) for table in tables), default=0)
    numbers = sum(table.weight.numel() for table in tables)
    if not is_lazy(numbers, width, method.batch_size, method):
        return Adam(network.parameters(), method.learning_rate, method.weight_decay)
    if method.weight_decay:
        raise UserError(
            f"optimizer=lazy_adam moves the embeddings of a batch, and weight_decay (now "
            f"{method.weight_decay:g}) all of them: use l2, which is on those of a batch, or "
            f"optimizer=adam."
        )
    if not tables:
        raise UserError(
            "optimizer=lazy_adam: this network has no pipeline.training.tables.Table, and nothing "
            "else is moved lazily; use optimizer=adam."
        )
    return LazyAdam(network, tables, method.learning_rate)


def is_lazy(numbers: int, width: int, batch_size: int, method: Method) -> bool:
    """Whether ``make_optimizer`` takes lazy_adam, or is asked to, for tables of so many numbers."""
    looked_up = (2 + method.negatives) * batch_size * width  # users, positives, negatives
    large = numbers > LARGE + FOR_EACH * looked_up and not method.weight_decay
    return method.optimizer == "lazy_adam" or (method.optimizer == "auto" and large)


class _Use(NamedTuple):
    """What a forward pass looked up in a table."""

    places: Tensor
    """int64 [m]."""
    rows: Tensor
    """[m, 2 * width], as in ``_Rows``."""
    columns: Tensor
    """[width, m]: what the pass computes with, and the gradient is of."""


class _Rows:
    """Tables of one width as rows of an embedding and its second moments.

    A look-up finds both in one place, and what is looked up in several tables is moved at once: a
    step is bound by the number of its operations.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        start = torch.cat([table.weight.detach().t() for table in tables])
        self.width = start.shape[1]
        self.rows = torch.cat([start, torch.zeros_like(start)], dim=1)
        self.last_step = start.new_zeros(len(start))
        """Of all, the one in which each was last used."""
        self.place = torch.empty(len(start), dtype=torch.int64, device=start.device)
        self.uses: list[_Use] = []
        first = 0
        for table in tables:
            end = first + table.weight.shape[1]
            table.weight.data = self.rows[first:end, : self.width].t()
            table.look_up = partial(self.look_up, first)
            first = end

    def look_up(self, first: int, indices: Tensor) -> Tensor:
        with torch.no_grad():
            places = indices + first
            rows = self.rows.index_select(0, places)
            columns = rows[:, : self.width].t().contiguous()
        self.uses.append(_Use(places, rows, columns.requires_grad_()))
        return columns

    def gather(self, gradients: Sequence[Tensor]) -> Tensor:
        """Look up what all processes have since the last step; the gradients of that."""
        own = torch.cat([self.place[:0], *(use.places for use in self.uses)])
        none = self.rows.new_empty(self.width, 0)
        places, gradient = gathered(own, torch.cat([none, *gradients], dim=1))
        self.uses[:] = [_Use(places, self.rows.index_select(0, places), gradient)]
        return gradient

    def step(self, gradients: Sequence[Tensor], number: Tensor, learning_rate: float) -> None:
        """Move what was looked up since the last step along its gradients, [width, m] of each."""
        places = torch.cat([use.places for use in self.uses])
        rows = torch.cat([use.rows for use in self.uses])
        gradient = self._summed(places, torch.cat(list(gradients), dim=1).t().contiguous())
        self.uses.clear()
        waited = number - self.last_step.index_select(0, places)
        squares = rows[:, self.width :] * (waited * LOG_BETA_2).exp_()[:, None]
        squares.addcmul_(gradient, gradient, value=1 - BETA_2)
        unbias = torch.expm1(number * LOG_BETA_2).neg_().sqrt_()
        rows[:, : self.width].addcdiv_(
            gradient * (unbias * -learning_rate), squares.sqrt().add_(unbias * EPSILON)
        )
        rows[:, self.width :] = squares
        # What stands in a batch twice is written twice, and the same.
        self.rows.index_copy_(0, places, rows)
        self.last_step.index_copy_(0, places, number.expand_as(places))

    def _summed(self, places: Tensor, gradients: Tensor) -> Tensor:
        """For each of [m, width] the sum over all of the same place.

        All of a place are added up where one of them stands, whichever wrote last: to look for
        what is distinct would be to wait for how many there are.
        """
        self.place.scatter_(0, places, torch.arange(len(places), device=places.device))
        one = self.place.index_select(0, places)
        return torch.zeros_like(gradients).index_add_(0, one, gradients).index_select(0, one)


class LazyAdam:
    """Steps of tables' embeddings that were looked up, and of all other parameters."""

    def __init__(self, network: Parts, tables: Sequence[Table], learning_rate: float) -> None:
        """``tables`` are those of the network; until ``release`` they are looked up here."""
        of_tables = {id(table.weight) for table in tables}
        others = [part for part in network.parameters() if id(part) not in of_tables]
        self.tables, self.learning_rate = tables, learning_rate
        self.others = Adam(others, learning_rate)
        widths = dict.fromkeys(len(table.weight) for table in tables)
        self.rows = [
            _Rows([table for table in tables if len(table.weight) == width]) for width in widths
        ]
        self.number = torch.zeros((), device=tables[0].weight.device)
        """Of the last step; on the device, so that a CUDA graph can hold it."""

    def begin(self) -> None:
        """Begin a step: what one that failed has looked up, as in a CUDA graph, is none of it."""
        for rows in self.rows:
            rows.uses.clear()

    @property
    def parameters(self) -> list[Tensor]:
        """What gradients are asked of: what is no table, and what was looked up since a step."""
        looked_up = [use.columns for rows in self.rows for use in rows.uses]
        return [*self.others.parameters, *looked_up]

    @torch.no_grad()
    def gather(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """What ``step`` takes of processes that train together, of the gradients of each."""
        remaining = iter(gradients)
        others = summed([next(remaining) for _ in self.others.parameters])
        of_rows = [rows.gather([next(remaining) for _ in rows.uses]) for rows in self.rows]
        return [*others, *of_rows]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the ``parameters``, given the gradient of each."""
        remaining = iter(gradients)
        self.others.step([next(remaining) for _ in self.others.parameters])
        self.number += 1
        for rows in self.rows:
            given = [next(remaining) for _ in rows.uses]
            rows.step(given, self.number, self.learning_rate)

    def release(self) -> None:
        """Give the tables back, features first; no step comes after it."""
        for table in self.tables:
            table.look_up = None
            table.weight.data = table.weight.detach().contiguous()

    def state_dict(self) -> dict[str, Any]:
        """As of Adam, the tables last; they have no first moments, but the step of last use.

        Tables of one width count as one parameter.
        """
        state = self.others.state_dict()["state"]
        for rows in self.rows:
            squares = rows.rows[:, rows.width :]
            of_rows = {"step": self.number, "exp_avg_sq": squares, "last_step": rows.last_step}
            state[len(state)] = of_rows
        return {"state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of what ``state_dict`` gave, on whatever device that was.

        Raises:
            ValueError: it has other parameters.
            KeyError: it lacks something.
        """
        load_moments(self.state_dict(), state)
