"""Adam that touches only the embeddings that a step has used.

A step of Adam reads and writes every parameter with both of its moments. Where tables are large
against a batch, nearly all of that is for embeddings without a gradient: their second moments
decay, and the first moments go on moving them for some twenty steps, most of them long before they
are used again. Here a gradient has that whole effect at once: tables are moved by Adam with
beta_1 = 0, by which an embedding without a gradient stays where it is. Instead of letting all
second moments decay, new ones count the more (``Rows``). What comes of it is, but for rounding,
torch.optim.Adam(betas=(0, 0.999)) on all embeddings. Everything else is moved by Adam as it is.

torch.optim.SparseAdam and FBGEMM's row-wise Adam leave the moments of unused embeddings as they
are, so that one that is in the share p of the batches moves by about sqrt(p) of what it would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.training.method import Method
from pipeline.training.optimizers.adam import Adam, load_moments
from pipeline.training.optimizers.rows import LOG_BETA_2, Rows
from pipeline.training.optimizers.sharded_rows import Exchange, ShardedRows
from pipeline.training.processes import number, share, summed
from pipeline.training.tables import Table, tables_of

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
        UserError: lazy_adam is wanted and there is weight decay, no table, or one twice.
    """
    if not takes_lazy_adam(network, method):
        if method.embeddings == "sharded":
            raise UserError(
                f"embeddings=sharded are moved by lazy_adam, and this is adam (optimizer="
                f"{method.optimizer}): give optimizer=lazy_adam, without weight_decay."
            )
        parameters = [each for each in network.parameters() if each.requires_grad]
        return Adam(parameters, method.learning_rate, method.weight_decay)
    if method.weight_decay:
        raise UserError(
            f"optimizer=lazy_adam moves the embeddings of a batch, and weight_decay (now "
            f"{method.weight_decay:g}) all of them: use l2, which is on those of a batch, or "
            f"optimizer=adam."
        )
    tables = learned_tables(network)
    if not tables:
        raise UserError(
            "optimizer=lazy_adam: this network has no pipeline.training.tables.Table, and nothing "
            "else is moved lazily; use optimizer=adam."
        )
    if are_tied(tables):
        raise UserError(
            "optimizer=lazy_adam: two tables of this network have the same weight. Look up one "
            "Table twice, or use optimizer=adam."
        )
    sharded = method.embeddings == "sharded" and number() > 1
    return LazyAdam(network, tables, method.learning_rate, sharded=sharded)


def takes_lazy_adam(network: Parts, method: Method) -> bool:
    """Whether ``make_optimizer`` takes lazy_adam, or is asked to."""
    tables = learned_tables(network)
    if method.optimizer == "auto" and are_tied(tables):
        return False
    width = max((len(table.weight) for table in tables), default=0)
    numbers = sum(len(table.weight) * table.n for table in tables)
    return is_lazy(numbers, width, method.batch_size, method)


def learned_tables(network: Parts) -> list[Table]:
    """Tables that are not frozen."""
    return [table for table in tables_of(network) if table.weight.requires_grad]


def are_tied(tables: Sequence[Table]) -> bool:
    """Whether some are one parameter under several names."""
    return len({id(table.weight) for table in tables}) < len(tables)


def is_lazy(numbers: int, width: int, batch_size: int, method: Method) -> bool:
    """As ``takes_lazy_adam``, of tables of so many numbers, the widest of this width."""
    looked_up = (2 + method.negatives) * batch_size * width  # users, positives, negatives
    large = numbers > LARGE + FOR_EACH * looked_up and not method.weight_decay
    return method.optimizer == "lazy_adam" or (method.optimizer == "auto" and large)


class LazyAdam:
    """Steps of tables' embeddings that were looked up, and of all other parameters."""

    def __init__(
        self,
        network: Parts,
        tables: Sequence[Table],
        learning_rate: float,
        *,
        sharded: bool = False,
    ) -> None:
        """``tables`` are those that it learns; until ``release`` they are looked up here.

        Where they are ``sharded``, the first process has all until ``share``.
        """
        of_tables = {id(table.weight) for table in tables}
        learned = [part for part in network.parameters() if part.requires_grad]
        others = [part for part in learned if id(part) not in of_tables]
        self.learning_rate = learning_rate
        self.others = Adam(others, learning_rate)
        alike: dict[int, list[Table]] = {}
        for table in tables:
            alike.setdefault(len(table.weight), []).append(table)
        make = partial(ShardedRows, exchange=Exchange()) if sharded else Rows
        self.rows: list[Rows] = [make(of_width) for of_width in alike.values()]
        self.number = torch.zeros((), device=tables[0].weight.device)
        """Of the last step; on the device, so that a CUDA graph can hold it."""
        self.renewed = torch.zeros_like(self.number)
        """Of the step after which second moments were last renewed."""

    def share(self) -> None:
        """Take what the first of several processes has, or this one's part of it."""
        self.others.share()
        share([self.number, self.renewed])
        for rows in self.rows:
            rows.share()

    @property
    def held(self) -> list[Tensor]:
        """All of what is learned that is here."""
        return [*self.others.parameters, *(rows.embeddings for rows in self.rows)]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Have all tables and moments in the first process for a ``with`` block.

        Nothing is learned meanwhile; all processes take part.
        """
        for rows in self.rows:
            rows.collect()
        yield
        for rows in self.rows:
            rows.drop()

    def begin(self) -> None:
        """Begin a step: what one that failed has looked up, as in a CUDA graph, is none of it."""
        for rows in self.rows:
            rows.uses.clear()

    def require_looked_up(self, objective: Tensor) -> None:
        """Refuse a network that comes by embeddings otherwise: it would not learn them.

        Raises:
            UserError: ``objective`` depends on a table's weight.
        """
        weights = [
            table.weight for rows in self.rows for table in rows.tables if table.weight.numel()
        ]
        if not weights:
            return
        found = torch.autograd.grad(objective, weights, retain_graph=True, allow_unused=True)
        if any(gradient is not None for gradient in found):
            raise UserError(
                "lazy_adam moves embeddings that are looked up, and this network uses the weight "
                "of a Table as it is: call the table with indices, or use optimizer=adam."
            )

    @property
    def parameters(self) -> list[Tensor]:
        """What gradients are asked of: what is no table, and what was looked up since a step."""
        looked_up = [use.columns for rows in self.rows for use in rows.uses]
        return [*self.others.parameters, *looked_up]

    @torch.no_grad()
    def gather(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """What ``step`` takes of processes that train together, of the gradients of each."""
        remaining = iter(gradients)
        others = [next(remaining) for _ in self.others.parameters]
        # First: where rows are sharded, others may still ask for some of this process's.
        of_rows = [rows.gather([next(remaining) for _ in rows.uses]) for rows in self.rows]
        return [*summed(others), *of_rows]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the ``parameters``, given the gradient of each."""
        remaining = iter(gradients)
        self.others.step([next(remaining) for _ in self.others.parameters])
        self.number += 1
        unbias = torch.expm1(self.number * LOG_BETA_2).neg_().rsqrt_()
        grown = self._growth().sqrt_()
        for rows in self.rows:
            given = [next(remaining) for _ in rows.uses]
            rows.step(given, self.learning_rate, unbias, grown)

    @torch.no_grad()
    def renew(self) -> None:
        """Undo the growth of second moments that ``Rows`` tells of; not in a CUDA graph."""
        growth = self._growth()
        for rows in self.rows:
            rows.renew(growth)
        self.renewed.copy_(self.number)

    def _growth(self) -> Tensor:
        """beta_2^(r - t), of second moments since they were last renewed."""
        return torch.exp_((self.renewed - self.number).mul_(LOG_BETA_2))

    def release(self) -> None:
        """Give the tables back, features first; no step comes after it."""
        for rows in self.rows:
            rows.release()

    def state_dict(self) -> dict[str, Any]:
        """As of Adam, the tables last, which have no first moments; to be taken once renewed.

        Tables of one width count as one parameter.
        """
        state = self.others.state_dict()["state"]
        for rows in self.rows:
            state[len(state)] = {"step": self.number, "exp_avg_sq": rows.moments()}
        return {"state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of what ``state_dict`` gave, on whatever device that was.

        Raises:
            ValueError: it has other parameters.
            KeyError: it lacks something.
        """
        load_moments(self.state_dict(), state)
        self.renewed.copy_(self.number)
