from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import costs
from benchmarks.costs import Found
from benchmarks.fresh import MIB
from benchmarks.generated import write
from pipeline.models.costs import Cost

SAID = Cost("als", 4.0, 300 * MIB, "Take less.")


def test_a_fit_is_measured_beside_what_it_was_said_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "small.csv", costs.SMALL)
    found = costs.fit("small.csv", "als")
    assert not found.refused
    assert found.seconds is not None
    assert found.memory is not None
    assert found.said.what.startswith("ALS of ")
    monkeypatch.setattr("pipeline.models.costs.available_memory", lambda: 1.0)
    monkeypatch.setattr(costs, "family", _without_the_small_fit)
    assert costs.fit("small.csv", "ease").refused


def _without_the_small_fit(name: str) -> type:
    from pipeline.models import family

    class Quiet(family(name)):  # type: ignore[misc]
        def fit(self, dataset: object) -> object:
            return self

    return Quiet


def test_rows_and_the_bar() -> None:
    row = costs.row("some", "als", Found(SAID, False, 2.0, 200 * MIB))
    assert (row["memory, ratio"], row["time, ratio"]) == (1.5, 2.0)
    refused = costs.row("some", "als", Found(SAID, True, None, None))
    assert (refused["took [s]"], refused["took [MiB]"]) == ("refused", "-")
