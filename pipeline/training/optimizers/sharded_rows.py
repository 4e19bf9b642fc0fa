"""Tables of embeddings too large for one process: every process has some of their rows.

    row      0   1   2   3   4   5   6 ...
    process  0   1   2   0   1   2   0 ...

In a step each process asks the others for the rows that its part of the batch looks up, and sends
the gradients back, by which whoever has a row moves it. Sums are over the same numbers in the same
order as where every process has all rows, so that a fit is the same either way.

The first process has whole tables, as a model has to be validated and saved, but not while it
trains: they are given to all when a fit begins, and collected when it is looked at, and at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipeline.training.optimizers.rows import Rows, Use, fetched
from pipeline.training.processes import (
    CPU,
    exchanged,
    from_all,
    leads,
    number,
    rank,
    receive_tensor,
    send_tensor,
)
from pipeline.training.tables import Table, laid_out

NOTHING = -1  # asked for in a round, by who has all that its part of a step looks up


class ShardedRows(Rows):
    """Rows of which this process has those of the places that are its own modulo their number."""

    def __init__(self, tables: Sequence[Table], exchange: Exchange) -> None:
        """The tables of the first process are whole, those of others are empty."""
        width, n = len(tables[0].weight), sum(table.n for table in tables)
        own = len(range(rank(), n, number()))
        self._hold(tables, tables[0].weight.new_zeros(own, 2 * width))
        self.exchange, self.which = exchange, len(exchange.all_rows)
        exchange.all_rows.append(self)
        self._moments: Tensor | None = None

    def look_up(self, first: int, indices: Tensor) -> Tensor:
        """As of ``Rows``, and every process takes part."""
        with torch.no_grad():
            places = indices + first
            columns = self.exchange.ask(self.which, places).t().contiguous()
        self.uses.append(Use(places, columns.requires_grad_()))
        return columns

    def answer(self, places: Tensor) -> Tensor:
        """Embeddings of this process's rows, [m, width]."""
        return fetched(self.rows, places // number())[:, : self.width].contiguous()

    def gather(self, gradients: Sequence[Tensor]) -> Tensor:
        """What all processes have looked up of this one's rows since the last step."""
        self.exchange.finish()
        places, gradient = self.looked_up(gradients)
        order, given = by_owner(places)
        taken = from_all(torch.tensor(given))[:, rank()].tolist()
        own = exchanged(places[order] // number(), given, taken)
        columns = exchanged(gradient.t()[order], given, taken).t()
        self.uses[:] = [Use(own, columns)]
        return columns

    def moments(self) -> Tensor:
        """Of the first process, and while it has all: of all rows, on a CPU."""
        if self._moments is None:
            self._moments = torch.zeros(sum(table.n for table in self.tables), self.width)
        return self._moments

    def share(self) -> None:
        """Take this process's rows of what the first one has, which then has no more either."""
        if not leads():
            receive_tensor(self.rows, 0)
            self._attach()
            return
        for other in range(number()):
            rows = self.rows
            if other:
                n = sum(part.shape[1] for part in self._columns(other))
                rows = rows.new_empty(n, 2 * self.width)
            self._fill(rows, other)
            if other:
                send_tensor(rows, other)
        self.drop()

    def _fill(self, rows: Tensor, other: int) -> None:
        """Set the rows of a process to what they are here."""
        parts = self._columns(other)
        pieces = rows.split([part.shape[1] for part in parts])
        for piece, part in zip(pieces, parts, strict=True):
            piece[:, : self.width] = part.t()
        squares = rows[:, self.width :]
        if self._moments is None:
            squares.zero_()
        else:
            squares.copy_(self._moments[other :: number()])

    def collect(self) -> None:
        """Have all rows in the tables and moments of the first process, until ``drop``."""
        self._collect_tables()
        if not leads():
            send_tensor(self.squares, 0)
            return
        moments = self.moments()
        for other in range(number()):
            squares = self.squares
            if other:
                n = len(range(other, len(moments), number()))
                squares = receive_tensor(squares.new_empty(n, self.width), other)
            moments[other :: number()] = squares.to(CPU)

    def _collect_tables(self) -> None:
        for table in self.tables:
            table.look_up = None
        if not leads():
            send_tensor(self.embeddings, 0)
            return
        for table in self.tables:
            table.weight.data = laid_out(self.rows.new_empty(self.width, table.n))
        for other in range(number()):
            columns = self._columns(other)
            lengths = [part.shape[1] for part in columns]
            rows = self.embeddings
            if other:
                rows = receive_tensor(rows.new_empty(sum(lengths), self.width), other)
            for part, own in zip(columns, rows.split(lengths), strict=True):
                part.copy_(own.t())

    def _columns(self, other: int) -> list[Tensor]:
        """Views of the whole tables: what of each belongs to a process."""
        first, found = 0, []
        for table in self.tables:
            found.append(table.weight.detach()[:, (other - first) % number() :: number()])
            first += table.n
        return found

    def drop(self) -> None:
        """Have this process's own rows alone, and look up the others' where they are."""
        self._moments = None
        for table in self.tables:
            table.empty()
        self._attach()

    def release(self) -> None:
        """Give the tables back to the first process."""
        self._collect_tables()


class Exchange:
    """Rounds in which every process asks for rows, or for nothing, and answers the others.

    Parts of a step differ in how often they look something up: whoever is done answers until all
    are.
    """

    def __init__(self) -> None:
        self.all_rows: list[ShardedRows] = []

    def ask(self, which: int, places: Tensor) -> Tensor:
        """Embeddings of these places [m], wherever they are: [m, width].

        Args:
            which: of ``all_rows``.
        """
        (order, asked), width = by_owner(places), self.all_rows[which].width
        headers = from_all(torch.tensor([which, *asked]))
        rows = self._answered(headers, places[order], asked, width).view(-1, width)
        return torch.empty_like(rows).index_copy_(0, order, rows)

    def finish(self) -> None:
        """Ask for nothing any more, and answer until nobody does."""
        nothing = torch.tensor([NOTHING] + [0] * number())
        none = self.all_rows[0].place[:0]
        while (headers := from_all(nothing))[:, 0].ne(NOTHING).any():
            self._answered(headers, none, [0] * number(), 0)

    def _answered(self, headers: Tensor, places: Tensor, asked: list[int], width: int) -> Tensor:
        """Answers to the ``asked`` of each process, [m * width], having answered theirs.

        Args:
            headers: of all processes, which rows each asks for and how many of each process.
            places: asked for, by their owners.
        """
        wanted = headers[:, 1 + rank()].tolist()
        parts = exchanged(places, asked, wanted).split(wanted)
        answers = list(self._answers(headers[:, 0].tolist(), parts))
        flat = torch.cat([answer.flatten() for answer in answers])
        sizes = [answer.numel() for answer in answers]
        return exchanged(flat, sizes, [width * count for count in asked])

    def _answers(self, which: list[int], parts: Sequence[Tensor]) -> Iterator[Tensor]:
        for rows, part in zip(which, parts, strict=True):
            yield self.all_rows[rows].answer(part) if rows != NOTHING else part.new_empty(0)


def by_owner(places: Tensor) -> tuple[Tensor, list[int]]:
    """The order of ``places`` [m] by the process that has each, and how many each has."""
    owners = places % number()
    return owners.argsort(stable=True), owners.bincount(minlength=number()).tolist()
