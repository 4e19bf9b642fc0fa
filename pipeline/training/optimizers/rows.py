"""Tables of embeddings as rows that a step looks up, sums gradients for, and moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from pipeline.training.optimizers.adam import BETA_2, EPSILON
from pipeline.training.processes import gathered, share
from pipeline.training.tables import Table, laid_out

LOG_BETA_2 = math.log(BETA_2)
ROOT = math.sqrt(1 - BETA_2)  # what a gradient counts in the root of a second moment


class Use(NamedTuple):
    """What a forward pass looked up in a table."""

    places: Tensor
    """int64 [m]."""
    columns: Tensor
    """[width, m]: what the pass computes with, and the gradient is of."""


class Rows:
    """Tables of one width as rows of an embedding and its second moments.

    A look-up finds both in one place, and what is looked up in several tables is moved at once: a
    step is bound by the number of its operations, and by waiting for memory.

    A second moment v decays by beta_2 in every step, looked up or not, for which all of them would
    have to be touched. Here u = v / beta_2^(t - r) is held in step t, which changes by gradients
    alone: they grow, and now and then all of u is divided by what it has grown by since step r,
    when that was last done (``renew``).
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

    @property
    def squares(self) -> Tensor:
        """u of all that are here, [., width]; once renewed their second moments."""
        return self.rows[:, self.width :]

    def look_up(self, first: int, indices: Tensor) -> Tensor:
        """Columns [width, m] of the table that begins at row ``first``."""
        with torch.no_grad():
            places = indices + first
            columns = laid_out(fetched(self.rows, places)[:, : self.width].t())
        self.uses.append(Use(places, columns.requires_grad_()))
        return columns

    def looked_up(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Places [m] and gradients [width, m] of all that was since the last step."""
        places = torch.cat([self.place[:0], *(use.places for use in self.uses)])
        return places, torch.cat([self.rows.new_empty(self.width, 0), *gradients], dim=1)

    def gather(self, gradients: Sequence[Tensor]) -> Tensor:
        """What all processes have looked up since the last step; the gradients of that."""
        places, gradient = gathered(*self.looked_up(gradients))
        self.uses[:] = [Use(places, gradient)]
        return gradient

    def step(
        self, gradients: Sequence[Tensor], learning_rate: float, unbias: Tensor, grown: Tensor
    ) -> None:
        """Move what was looked up since the last step along its gradients, [width, m] of each.

        Args:
            unbias: 1 / sqrt(1 - beta_2^t), floating [].
            grown: 1 / sqrt(beta_2^(t - r)), floating [].
        """
        if not self.uses:
            return
        places = torch.cat([use.places for use in self.uses])
        self.uses.clear()
        rows = fetched(self.rows, places)
        gradient = self._summed(places, torch.cat([each.t() for each in gradients]))
        gradient.mul_(grown * ROOT)
        squares = torch.addcmul(rows[:, self.width :], gradient, gradient)
        rows[:, self.width :] = squares
        rows[:, : self.width].addcdiv_(
            gradient,
            squares.sqrt_().mul_(unbias).add_(grown * EPSILON),
            value=-learning_rate / ROOT,
        )
        put(self.rows, places, rows)

    def renew(self, growth: Tensor) -> None:
        """Have u be v: it has grown by so much, []."""
        self.squares.div_(growth)

    def _summed(self, places: Tensor, gradients: Tensor) -> Tensor:
        """For each of [m, width] the sum over all of the same place.

        All of a place are added up where one of them stands, whichever wrote last. On a CPU what
        stands elsewhere is looked for and added, which is a tenth or so; a GPU would be waited for.
        """
        order = torch.arange(len(places), device=places.device)
        self.place.scatter_(0, places, order)
        one = self.place.index_select(0, places)
        if places.device.type == "cpu":
            elsewhere = (one != order).nonzero().squeeze(1)
            one_of_them, others = (each.index_select(0, elsewhere) for each in (one, gradients))
            summed = gradients.index_add_(0, one_of_them, others)
        else:
            summed = torch.zeros_like(gradients).index_add_(0, one, gradients)
        return summed.index_select(0, one)

    def moments(self) -> Tensor:
        """``squares`` of all tables, live."""
        return self.squares

    def share(self) -> None:
        """Take what the first process has."""
        share([self.rows])

    def collect(self) -> None:
        """Have all rows in the tables and moments of the first process: they are there."""

    def drop(self) -> None:
        """End what ``collect`` began."""

    def release(self) -> None:
        """Give the tables back."""
        for table in self.tables:
            table.look_up = None
            table.weight.data = laid_out(table.weight.detach())


def fetched(rows: Tensor, places: Tensor) -> Tensor:
    """Rows [m, width] of [n, width], of ``places`` [m], each perhaps several times.

    On a CPU as the sums of bags of one: that kernel asks memory for the rows to come while it
    copies, and takes half of the time.
    """
    if rows.device.type != "cpu":
        return rows.index_select(0, places)
    return embedding_bag(places, rows, offsets=_bags_of_one(len(places)), mode="sum")


@lru_cache(maxsize=8)  # steps look up the same numbers of rows, but for the last of an epoch
def _bags_of_one(count: int) -> Tensor:
    return torch.arange(count, device="cpu")


def put(rows: Tensor, places: Tensor, values: Tensor) -> None:
    """Set rows of [n, 2 * width] to ``values`` [m, 2 * width]; a place twice has the same twice.

    torch copies element by element, on a GPU of 16 bytes where that many divide a row, or of 8. On
    a CPU NumPy has a row for an element.
    """
    if rows.device.type == "cpu":
        row = np.dtype((np.void, rows.shape[1] * rows.element_size()))
        np.put(rows.numpy().view(row), places.numpy(), values.numpy().view(row), mode="clip")
        return
    element = torch.complex128 if rows.shape[1] % 4 == 0 else torch.float64
    rows.view(element).index_copy_(0, places, values.view(element))
