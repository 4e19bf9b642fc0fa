"""The plots of a dataset show what is in it, and survive the smallest datasets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.dates import num2date
from matplotlib.figure import Figure
from matplotlib.image import imread

from pipeline.data.dataset import Dataset
from pipeline.data.figures import dataset_figures
from pipeline.data.protocols import Times, cut_moment
from tests.conftest import checkerboard, make_dataset


@pytest.fixture(scope="module")
def figures(dataset: Dataset) -> dict[str, Figure]:
    return {name: each.figure for name, each in dataset_figures(dataset, (0.7, 0.85)).items()}


def test_ratings_are_shares_before_and_after_the_cut(
    figures: dict[str, Figure], dataset: Dataset
) -> None:
    axes = figures["ratings.png"].axes[0]
    train, later = axes.get_lines()
    stars = dataset.train["rating"].value_counts(normalize=True).sort_index()
    assert np.allclose(train.get_xdata(), stars.index)
    assert np.allclose(train.get_ydata(), stars)
    assert sum(later.get_ydata()) == pytest.approx(1)
    assert train.get_label() == f"training ({len(dataset.train):,})"


def test_time_has_a_line_for_the_cut_and_one_per_window(
    figures: dict[str, Figure], dataset: Dataset
) -> None:
    axes = figures["time.png"].axes[0]
    moments = dataset.train["timestamp"].to_numpy()
    drawn = [round(num2date(line.get_xdata()[0]).timestamp()) for line in axes.get_lines()]
    assert drawn == [
        moments.max(),
        cut_moment(Times(moments), 0.7),
        cut_moment(Times(moments), 0.85),
    ]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"end of training", "validation window 0.7", "validation window 0.85"} <= set(labels)
    counted = sum(patch.get_height() for patch in axes.patches)
    assert counted == len(dataset.train) + len(dataset.later)


def test_the_long_tail_falls_and_sums_up_to_all_interactions(
    figures: dict[str, Figure], dataset: Dataset
) -> None:
    lines = figures["long_tail.png"].axes[0].get_lines()
    assert [line.get_label() for line in lines] == [
        f"{dataset.n_items:,} items",
        f"{dataset.n_users:,} users",
    ]
    for line in lines:
        counts = np.asarray(line.get_ydata())
        assert (np.diff(counts) <= 0).all()
        assert counts.sum() == len(dataset.train)


@pytest.mark.parametrize(
    "dataset",
    [checkerboard(), make_dataset([(1, 1), (1, 2)], [(1, 3)]), make_dataset([(1, 1)])],
    ids=["one moment", "no test row", "one interaction"],
)
def test_the_smallest_datasets_can_be_drawn(dataset: Dataset) -> None:
    for name, drawn in dataset_figures(dataset, (0.5,)).items():
        figure = drawn.figure
        assert figure.get_suptitle() == drawn.says, name
        assert len(drawn.data)
        image = io.BytesIO()
        figure.savefig(image, format="png")
        image.seek(0)
        assert imread(image).std() > 0.05
