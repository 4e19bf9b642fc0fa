from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from pipeline.training.sampling import NegativeSampler, Positives

# Items 0-3 have 1, 2, 4 and 8 users.
USERS = torch.arange(15)
ITEMS = torch.tensor([0] + [1] * 2 + [2] * 4 + [3] * 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampler(power: float = 0.0, verified: bool = False, n_items: int = 4) -> NegativeSampler:
    return NegativeSampler(USERS, ITEMS, n_items, power=power, verified=verified)


def assert_frequencies(drawn: Tensor, weights: list[float]) -> None:
    """A chi-square test; the seed is fixed, so it passes always or never."""
    counts = torch.bincount(drawn.flatten(), minlength=len(weights)).numpy()
    shares = np.array(weights) / sum(weights)
    assert stats.chisquare(counts, shares * counts.sum()).pvalue > 0.01


def test_shape_and_type() -> None:
    for power in (0.0, 1.0):
        drawn = sampler(power).draw(USERS, 7, seeded())
        assert drawn.shape == (7, 15)
        assert drawn.dtype == torch.int64


@pytest.mark.parametrize(
    ("power", "weights"),
    [
        (0.0, [1, 1, 1, 1]),
        (1.0, [1, 2, 4, 8]),
        (0.5, [1, 2**0.5, 2, 8**0.5]),
        (0.75, [1, 2**0.75, 4**0.75, 8**0.75]),
    ],
)
def test_items_are_drawn_by_popularity_to_the_power(power: float, weights: list[float]) -> None:
    drawn = sampler(power).draw(torch.zeros(1000, dtype=torch.int64), 100, seeded())
    assert_frequencies(drawn, weights)


def test_uniform_draws_reach_every_item_of_a_large_catalogue() -> None:
    drawn = sampler(n_items=1000).draw(torch.zeros(2000, dtype=torch.int64), 50, seeded())
    assert_frequencies(drawn, [1] * 1000)


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize(("power", "weights"), [(0.0, [1, 1, 1]), (1.0, [1, 2, 8])])
def test_verified_negatives_keep_their_proportions(
    power: float, weights: list[float], blind: bool
) -> None:
    user_of_item_2 = torch.full((30_000,), 3)
    made = sampler(power, verified=True)
    made.blind = blind
    drawn = made.draw(user_of_item_2, 1, seeded())
    assert not (drawn == 2).any()
    assert_frequencies(drawn.where(drawn < 3, 2), weights)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 7), max_size=4), min_size=1, max_size=5).filter(any),
    st.integers(0, 2**32 - 1),
)
def test_verified_negatives_are_no_positives(taken: list[set[int]], seed: int) -> None:
    pairs = [(user, item) for user, items in enumerate(taken) for item in items]
    users, items = torch.tensor(sorted(pairs, key=lambda pair: pair[::-1])).T
    made = NegativeSampler(users, items, 8, power=0.0, verified=True)
    drawn = made.draw(torch.arange(len(taken)), 6, seeded(seed))
    for mine, negatives in zip(taken, drawn.T.tolist(), strict=True):
        assert mine.isdisjoint(negatives)


def test_what_is_wrong_is_drawn_again_in_its_order() -> None:
    generator, users = seeded(), torch.tensor([3, 7] * 500)  # who have items 2 and 3
    expected = torch.randint(4, (1000, 3), generator=generator)
    while (wrong := expected == ITEMS[users][:, None]).any():
        expected[wrong] = torch.randint(4, (int(wrong.sum()),), generator=generator)
    drawn = sampler(verified=True).draw(users, 3, seeded())
    assert torch.equal(drawn, expected.T)


def test_marks_lose_no_positive_and_pass_no_other() -> None:
    generator = seeded()
    users, items = (torch.randint(1000, (2, 5000), generator=generator)).unbind()
    positives = Positives(users, items, 1000)
    asked = torch.cat([users, torch.randint(1000, (50_000,), generator=generator)])
    of = torch.cat([items, torch.randint(1000, (50_000,), generator=generator)])
    known = {*zip(users.tolist(), items.tolist(), strict=True)}
    expected = [pair in known for pair in zip(asked.tolist(), of.tolist(), strict=True)]
    assert positives.hold(asked, of).tolist() == expected
    assert torch.equal(positives.places(asked, of), torch.tensor(expected).nonzero().squeeze(1))


def test_blind_redraws_leave_the_share_that_was_worked_out() -> None:
    # Half of the draws are positives, so that of 2^16 * 20 negatives about 20 remain.
    users, items = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    made = NegativeSampler(users, items, 8, power=0.0, verified=True)
    made.blind = True
    drawn = made.draw(torch.zeros(2**16, dtype=torch.int64), 20, seeded())
    assert 5 < int((drawn < 4).sum()) < 40


def test_unverified_negatives_may_be_positives() -> None:
    assert (sampler().draw(torch.full((100,), 3), 1, seeded()) == 2).any()


def test_a_user_of_every_item_gets_some_anyway() -> None:
    users, items = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    made = NegativeSampler(users, items, 4, power=0.0, verified=True)
    drawn = made.draw(torch.tensor([0, 1]), 20, seeded())
    assert ((drawn >= 0) & (drawn < 4)).all()


def test_each_draw_differs_and_a_seed_repeats_them() -> None:
    made, generator = sampler(0.75, verified=True), seeded()
    first, second = (made.draw(USERS, 20, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, made.draw(USERS, 20, seeded()))
