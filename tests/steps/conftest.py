"""What several tests of steps begin with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.steps.evaluated import N_USERS, Store
from tests.steps.workplace import Workplace


@pytest.fixture
def kept(workplace: Workplace) -> Iterator[Store]:
    """An empty store; this process works with it."""
    with workplace.entered():
        yield Store(workplace, np.random.default_rng(0).normal(size=N_USERS))
