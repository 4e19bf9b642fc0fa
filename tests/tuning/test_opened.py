"""A study and its data: windows that nobody chose are those that the data have."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.config import Experiment, read_experiment
from pipeline.data.raw.reading import Reading
from pipeline.errors import UserError
from pipeline.tuning.opened import Data
from pipeline.tuning.plan import ROLLING_WINDOWS
from tests.steps.workplace import ROOT, Workplace

SVD = ROOT / "experiments" / "svd.yaml"


def find(place: Workplace, windows: tuple[float, ...]) -> tuple[Data, Experiment]:
    experiment = read_experiment(SVD, {"windows": windows})
    with place.entered():
        return Data.find(experiment, "coarse.csv", Reading()), experiment


@pytest.fixture
def coarse(workplace: Workplace, ratings: pd.DataFrame) -> Workplace:
    moments = ratings["timestamp"].rank(pct=True).mul(4).astype(int)
    ratings.assign(timestamp=moments).to_csv(workplace.folder / "coarse.csv", index=False)
    return workplace


def test_windows_that_nobody_chose_are_those_that_there_are(
    coarse: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    data, experiment = find(coarse, ROLLING_WINDOWS)
    with caplog.at_level("INFO", "pipeline"):
        windows = data.windowed(experiment).windows
        assert data.windowed(experiment).windows == windows
    assert 0 < len(windows) < len(ROLLING_WINDOWS)
    assert set(windows) < set(ROLLING_WINDOWS)
    left_out = len(ROLLING_WINDOWS) - len(windows)
    assert caplog.text.count("is the same as another and is left out") == left_out
    assert f"window_{windows[0]:g}: " in caplog.text


def test_windows_that_were_chosen_are_refused_where_two_are_the_same(coarse: Workplace) -> None:
    with pytest.raises(UserError, match="some are the same split"):
        find(coarse, (0.6, 0.61))
