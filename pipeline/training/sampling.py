"""Negative sampling on the device: whole epochs at once, no Python work per sample."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 50  # redraws of negatives that turn out to be positives; a user of every item keeps some
# Redraws where nobody looks whether any is left to do. Of a user whose positives are the share p of
# what is drawn, p^16 of the negatives remain positives: of a user of half the catalogue 2e-5. In
# ML-1M that is 4e-8 of all negatives if they are uniform, 9e-5 if they go by popularity.
BLIND_ROUNDS = 15


class NegativeSampler:
    """Draws items that a user (presumably) does not want.

    Item i is drawn with probability proportional to popularity_i ** ``power``: 0 is uniform, 1 is
    by popularity, 0.75 is word2vec's compromise (Mikolov et al., 2013). With ``verified``, items
    that the user has in training are drawn again.
    """

    def __init__(
        self, users: Tensor, items: Tensor, n_items: int, *, power: float, verified: bool
    ) -> None:
        """``users`` and ``items`` are the training interactions, int64 [n], on one device."""
        self.n_items = n_items
        self.uniform = power == 0
        weights = torch.bincount(items, minlength=n_items).double() ** power
        self.cumulative = (weights / weights.sum()).cumsum(0)
        self.positives = (users * n_items + items).sort().values if verified else None
        self.blind = users.is_cuda
        """Whether looking at what was drawn is dear: a GPU would have to be waited for."""

    def draw(self, users: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
        """Negatives for ``users`` [n]: item indices, int64 [negatives, n]."""
        drawn = self._draw((len(users), negatives), users.device, generator)
        if self.positives is not None:
            redrawn = self._redrawn_blindly if self.blind else self._redrawn
            drawn = redrawn(users[:, None].expand_as(drawn), drawn, self.positives, generator)
        return drawn.t()

    def _redrawn(
        self, users: Tensor, drawn: Tensor, positives: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Only what was drawn again is looked at again: a search is dear, and most are right."""
        owners, flat = users.flatten(), drawn.view(-1)
        wrong = self._is_positive(owners, flat, positives).nonzero().squeeze(1)
        for _ in range(ROUNDS):
            if len(wrong) == 0:
                break
            again = self._draw((len(wrong),), users.device, generator)
            flat[wrong] = again
            wrong = wrong[self._is_positive(owners[wrong], again, positives)]
        return drawn

    def _redrawn_blindly(
        self, users: Tensor, drawn: Tensor, positives: Tensor, generator: torch.Generator
    ) -> Tensor:
        for _ in range(BLIND_ROUNDS):
            wrong = self._is_positive(users, drawn, positives)
            again = self._draw(tuple(drawn.shape), users.device, generator)
            drawn = torch.where(wrong, again, drawn)
        return drawn

    def _draw(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator
    ) -> Tensor:
        if self.uniform:
            return torch.randint(self.n_items, shape, device=device, generator=generator)
        points = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        return torch.searchsorted(self.cumulative, points).clamp_(max=self.n_items - 1)

    def _is_positive(self, users: Tensor, items: Tensor, positives: Tensor) -> Tensor:
        keys = users * self.n_items + items
        places = torch.searchsorted(positives, keys).clamp_(max=len(positives) - 1)
        return positives[places] == keys
