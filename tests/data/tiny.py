"""A dataset small enough to split by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.data.split_settings import SplitSettings

RULES = SplitSettings(test_cut=0.5, min_training=2, min_warm_training=3, min_held_out=2)
# Users 7, 5 and 9 begin before the cut (1017, the ninth of 17 moments); 9 has too little
# training and takes item 40 out of the catalogue with it; 3 and 4 are first seen after the cut.
ROWS = [
    (7, 30, 4, 1009),
    (7, 10, 5, 1010),
    (7, 20, 3, 1011),
    (5, 30, 2, 1012),
    (5, 20, 1, 1013),
    (9, 40, 5, 1014),
    (7, 50, 5, 1015),
    (5, 10, 4, 1016),
    (7, 60, 3, 1017),
    (5, 60, 5, 1020),
    (7, 70, 3, 1021),
    (5, 40, 5, 1022),
    (5, 50, 2, 1023),
    (4, 10, 5, 1024),
    (3, 20, 5, 1025),
    (3, 10, 5, 1026),
    (9, 10, 1, 1027),
]

METADATA = pd.DataFrame(
    {
        "item": [20, 10, 99, 20],
        "title": ["Twenty", "Ten", "Elsewhere", "Twenty again"],
        "genres": ["Drama", "Comedy|War", "", "Comedy"],
    }
)


def frame(rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    """Ratings as they are read."""
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    return table.astype({"rating": np.float32})


def tiny(min_training: int = 2, min_warm_training: int = 3, min_held_out: int = 2) -> Dataset:
    """``ROWS`` in halves by time."""
    rules = SplitSettings(
        test_cut=0.5,
        min_training=min_training,
        min_warm_training=min_warm_training,
        min_held_out=min_held_out,
    )
    return Dataset.from_ratings("tiny", frame(ROWS), METADATA, rules)
