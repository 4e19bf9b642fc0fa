"""All sides of the benchmark do the same work, and nothing of it is left running."""

from __future__ import annotations

import pytest

from benchmarks.tracking import allowed, help_seconds, require_alike, tracked, untracked
from tests.steps.workplace import Workplace


def test_the_sides_come_to_the_same_model(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workplace.uri)  # taken back when the test ends
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with workplace.entered():
        without = untracked(workplace.folder, "ratings.csv", 2)
        assert not workplace.runs()
        tracked_ones = tracked(workplace.folder, "ratings.csv", 2, workplace.uri)
    require_alike({"none": without, "SQLite": tracked_ones})
    assert 0 < without["ndcg_at_10"] < 1
    run = workplace.run(step="train")
    assert run.info.status == "FINISHED"
    assert set(workplace.history(run, "train/loss")) == {1, 2}
    assert (workplace.model(run) / "MLmodel").exists()


def test_sides_that_differ_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"SQLite: ndcg_at_10 is 0\.31, without tracking 0\.3"):
        require_alike({"none": {"ndcg_at_10": 0.3}, "SQLite": {"ndcg_at_10": 0.31}})


def test_the_allowance_has_a_share_and_a_constant() -> None:
    assert allowed(100.0) == pytest.approx(6.0)


def test_help_is_printed() -> None:
    assert help_seconds(1) > 0
