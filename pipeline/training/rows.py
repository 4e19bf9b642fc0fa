"""Tables of embeddings as rows that a step looks up, sums gradients for, and moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.training.adam import BETA_2, EPSILON
from pipeline.training.processes import gathered, share
from pipeline.training.tables import Table, laid_out

LOG_BETA_2 = math.log(BETA_2)


class Use(NamedTuple):
    """What a forward pass looked up in a table."""

    places: Tensor
    """int64 [m]."""
    rows: Tensor
    """[m, 2 * width], as in ``Rows``."""
    columns: Tensor
    """[width, m]: what the pass computes with, and the gradient is of."""


class Rows:
    """Tables of one width as rows of an embedding and its second moments.

    A look-up finds both in one place, and what is looked up in several tables is moved at once: a
    step is bound by the number of its operations.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        start = torch.cat([table.weight.detach().t() for table in tables])
        self._hold(tables, torch.cat([start, torch.zeros_like(start)], dim=1))
        first = 0
        for table in tables:
            table.weight.data = self.rows[first : first + table.n, : self.width].t()
            first += table.n
        self._attach()

    def _hold(self, tables: Sequence[Table], rows: Tensor) -> None:
        self.tables, self.rows, self.width = tables, rows, len(tables[0].weight)
        self.last_step = rows.new_zeros(len(rows))
        """Of all, the one in which each was last used."""
        self.place = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
        self.uses: list[Use] = []

    def _attach(self) -> None:
        """Have what the tables are asked for looked up here."""
        first = 0
        for table in self.tables:
            table.look_up = partial(self.look_up, first)
            first += table.n

    @property
    def embeddings(self) -> Tensor:
        """All that are here, [., width]."""
        return self.rows[:, : self.width]

    def look_up(self, first: int, indices: Tensor) -> Tensor:
        """Columns [width, m] of the table that begins at row ``first``."""
        with torch.no_grad():
            places = indices + first
            rows = self.rows.index_select(0, places)
            columns = laid_out(rows[:, : self.width].t())
        self.uses.append(Use(places, rows, columns.requires_grad_()))
        return columns

    def looked_up(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Places [m] and gradients [width, m] of all that was since the last step."""
        places = torch.cat([self.place[:0], *(use.places for use in self.uses)])
        return places, torch.cat([self.rows.new_empty(self.width, 0), *gradients], dim=1)

    def gather(self, gradients: Sequence[Tensor]) -> Tensor:
        """Look up what all processes have since the last step; the gradients of that."""
        places, gradient = gathered(*self.looked_up(gradients))
        self.uses[:] = [Use(places, self.rows.index_select(0, places), gradient)]
        return gradient

    def step(self, gradients: Sequence[Tensor], number: Tensor, learning_rate: float) -> None:
        """Move what was looked up since the last step along its gradients, [width, m] of each."""
        places = torch.cat([use.places for use in self.uses])
        rows = torch.cat([use.rows for use in self.uses])
        gradient = self._summed(places, torch.cat([each.t().contiguous() for each in gradients]))
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

    def moments(self) -> dict[str, Tensor]:
        """Second moments [n, width] and steps of last use [n], live."""
        return {"exp_avg_sq": self.rows[:, self.width :], "last_step": self.last_step}

    def share(self) -> None:
        """Take what the first process has."""
        share([self.rows, self.last_step])

    def collect(self) -> None:
        """Have all rows in the tables and moments of the first process: they are there."""

    def drop(self) -> None:
        """End what ``collect`` began."""

    def release(self) -> None:
        """Give the tables back."""
        for table in self.tables:
            table.look_up = None
            table.weight.data = laid_out(table.weight.detach())
