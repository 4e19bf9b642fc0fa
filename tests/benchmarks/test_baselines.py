"""Both sides of the benchmark learn the same scores."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines import LIBRARIES, compare, experiment
from pipeline.data.dataset import Dataset
from tests.conftest import checkerboard


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_sides_agree(dataset: Dataset, name: str) -> None:
    asked = experiment(name)
    matrix = dataset.train_matrix(asked.params.model_dump()["values"])
    left, right = LIBRARIES[name](matrix, asked.params, asked.seed)
    theirs = left @ right
    theirs = theirs if isinstance(theirs, np.ndarray) else theirs.toarray()
    ours = asked.recommender().fit(dataset).scores(np.arange(dataset.n_users, dtype=np.int32))
    assert np.ptp(ours) > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_every_model_has_a_row() -> None:
    rows = compare(checkerboard(), seconds=0)
    assert [row["model"] for row in rows] == list(LIBRARIES)
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(
            float(row["this project [s]"]) / float(row["library [s]"])
        )
