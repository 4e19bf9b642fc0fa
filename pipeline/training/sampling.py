"""Negative sampling on the device: whole epochs at once, no Python work per sample."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

ROUNDS = 50  # redraws of negatives that turn out to be positives; a user of every item keeps some
# Redraws where nobody looks whether any is left to do. Of a user whose positives are the share p of
# what is drawn, p^16 of the negatives remain positives: of a user of half the catalogue 2e-5. In
# ML-1M that is 4e-8 of all negatives if they are uniform, 9e-5 if they go by popularity.
BLIND_ROUNDS = 15
# Of a byte each, at the least: at most one in eight that are no positives is searched for. Of
# ML-25M's 20 million training interactions they take 256 MiB.
MARKS_PER_KEY = 8
GOLDEN = -7046029254386353131  # 2^64 over the golden ratio, as a signed number


class NegativeSampler:
    """Draws items that a user (presumably) does not want.

    Item i is drawn with probability proportional to popularity_i ** ``power``: 0 is uniform, 1 is
    by popularity, 0.75 is word2vec's compromise (Mikolov et al., 2013). With ``verified``, items
    that the user has in training are drawn again.
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        n_items: int,
        *,
        power: float,
        verified: bool,
        popularity: Tensor | None = None,
    ) -> None:
        """``users`` and ``items`` are the training interactions, int64 [n], on one device.

        ``popularity`` is [n_items], where these are not all interactions.
        """
        self.n_items = n_items
        self.uniform = power == 0
        counts = torch.bincount(items, minlength=n_items) if popularity is None else popularity
        weights = counts.double() ** power
        self.cumulative = (weights / weights.sum()).cumsum(0)
        self.positives = Positives(users, items, n_items) if verified else None
        self.blind = users.device.type != "cpu"
        """Whether looking at what was drawn is costly: a GPU would have to be waited for."""

    def draw(self, users: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
        """Negatives for ``users`` [n]: item indices, int64 [negatives, n]."""
        drawn = self._draw((len(users), negatives), users.device, generator)
        if self.positives is not None:
            redraw = self._redraw_blindly if self.blind else self._redraw
            redraw(users[:, None].expand_as(drawn), drawn, self.positives, generator)
        return drawn.t()

    def _redraw(
        self, users: Tensor, drawn: Tensor, positives: Positives, generator: torch.Generator
    ) -> None:
        """Only what was drawn again is looked at again."""
        owners, flat = users.flatten(), drawn.view(-1)
        wrong = positives.places(owners, flat)
        for _ in range(ROUNDS):
            if len(wrong) == 0:
                break
            again = self._draw((len(wrong),), users.device, generator)
            flat[wrong] = again
            wrong = wrong[positives.places(owners[wrong], again)]

    def _redraw_blindly(
        self, users: Tensor, drawn: Tensor, positives: Positives, generator: torch.Generator
    ) -> None:
        for _ in range(BLIND_ROUNDS):
            again = self._draw(tuple(drawn.shape), users.device, generator)
            drawn.copy_(torch.where(positives.hold(users, drawn), again, drawn))

    def _draw(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator
    ) -> Tensor:
        if self.uniform:
            return torch.randint(self.n_items, shape, device=device, generator=generator)
        points = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        return torch.searchsorted(self.cumulative, points).clamp_(max=self.n_items - 1)


class Positives:
    """The set of training interactions, asked for many pairs of a user and an item at once."""

    def __init__(self, users: Tensor, items: Tensor, n_items: int) -> None:
        """``users`` and ``items`` are int64 [n], on one device."""
        self.n_items = n_items
        self.keys = (users * n_items + items).sort().values

    def hold(self, users: Tensor, items: Tensor) -> Tensor:
        """Which pairs are among them, bool of the shape of both; nothing is waited for."""
        keys = users * self.n_items + items
        found = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        return self.keys[found] == keys

    def places(self, users: Tensor, items: Tensor) -> Tensor:
        """Where ``hold`` is true of pairs [n], int64 ascending.

        Searching leaves the cache at every step. Most pairs are decided by one look at a mark.
        """
        marks = self._marks.index_select(0, self._mark(users * self.n_items + items))
        marked = marks.nonzero().squeeze(1)
        return marked[self.hold(users[marked], items[marked])]

    @cached_property
    def _marks(self) -> Tensor:
        """A Bloom filter of one hash function, bool [2^bits]: True at the marks of the keys."""
        marks = torch.zeros(1 << self._bits, dtype=torch.bool, device=self.keys.device)
        marks[self._mark(self.keys)] = True
        return marks

    @property
    def _bits(self) -> int:
        return (MARKS_PER_KEY * len(self.keys) - 1).bit_length()

    def _mark(self, keys: Tensor) -> Tensor:
        """Upper bits of a product that wraps around: Knuth's multiplicative hashing."""
        return (keys * GOLDEN) >> (64 - self._bits) & ((1 << self._bits) - 1)
