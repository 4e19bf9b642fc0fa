"""Splits as a person reads them: with ids instead of numbers."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from pipeline.data.raw.numbering import Numbered
from pipeline.data.split import Split, split_ratings
from pipeline.data.split_settings import SplitSettings


def split_of(ratings: pd.DataFrame, settings: SplitSettings) -> Split:
    """The split of rows with ids, its parts with ids."""
    numbered = Numbered.of(ratings)
    parts = split_ratings("made", numbered.rows, settings)

    def named(rows: pd.DataFrame) -> pd.DataFrame:
        ids = {"user": numbered.users, "item": numbered.items}
        return rows.assign(**{side: ids[side].take(rows[side]) for side in ids})

    train, superseded, later = map(named, (parts.train, parts.superseded, parts.later))
    return replace(parts, train=train, superseded=superseded, later=later)
