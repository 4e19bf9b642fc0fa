"""Suites of studies: which studies they are, with which budget, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.tuning.suite import Suite, is_suite, read_suite

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    studies = tmp_path / "studies"
    studies.mkdir()
    for model in ("svd", "item_knn", "most_popular"):
        (tmp_path / f"{model}.yaml").write_text(f"model: {model}\n")
    (studies / "svd.yaml").write_text("config: ../svd.yaml\nn_trials: 7\n")
    (studies / "item_knn.yaml").write_text("config: ../item_knn.yaml\nwide_from: [svd]\n")
    return studies


def suite(folder: Path, flags: dict[str, Any] | None = None, **fields: Any) -> Suite:
    file = folder / "mine.yaml"
    listed = {"studies": ["most_popular", "svd", "item_knn"], **fields}
    file.write_text(yaml.safe_dump(listed))
    return read_suite(file, flags or {})


def test_studies_and_rows_without_a_search(folder: Path) -> None:
    found = suite(folder, minutes_each=2)
    assert [plan.name for plan, _ in found.studies] == ["svd", "item_knn"]
    assert [[each.name for each in beside] for _, beside in found.studies] == [[], ["svd"]]
    assert [each.name for each in found.fixed] == ["most_popular"]
    assert found.fixed[0].windows == found.studies[0][0].experiment.windows
    assert found.in_words() == (
        "2 families, at most 2 min of trials each, 4 min in all and 1 without a search"
    )


def test_every_study_has_the_same_time(folder: Path) -> None:
    found = suite(folder, minutes_each=2)
    plans = [each for plan, beside in found.studies for each in (plan, *beside)]
    assert [plan.settings.timeout for plan in plans] == [120] * 3
    assert [plan.settings.n_trials for plan in plans] == [7, 50, 7]
    flags = {"minutes_each": "0.5", "n_trials": "3"}
    shorter = suite(folder, flags, minutes_each=2)
    assert [(plan.settings.timeout, plan.settings.n_trials) for plan, _ in shorter.studies] == [
        (30, 3),
        (30, 3),
    ]
    assert shorter.given["minutes_each"] == 0.5
    assert shorter.given["n_trials"] == "3"


def test_a_flag_is_for_those_that_have_the_field(folder: Path) -> None:
    found = suite(folder, {"components": "4", "min_held_out": "3", "similarity": "bm25"})
    (svd, _), (knn, beside) = found.studies
    assert svd.experiment.flat()["components"] == 4
    assert beside[0].experiment == svd.experiment
    assert list(knn.space) == ["values", "neighbours"]
    everybody = [each.split.min_held_out for each in found.experiments]
    assert everybody == [3, 3, 3]


@pytest.mark.parametrize(
    ("flags", "fields", "told"),
    [
        ({"component": 3}, {}, "did you mean 'components'?"),
        ({}, {"minutes": 3}, "did you mean 'minutes_each'?"),
        ({}, {"studies": []}, "studies=[]"),
        ({}, {"studies": ["eases"]}, "neither a study"),
        ({}, {"minutes_each": 0}, "minutes_each=0"),
    ],
)
def test_what_is_refused(
    folder: Path, flags: dict[str, Any], fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        suite(folder, flags, **fields)
    assert told in str(caught.value)


def test_everything() -> None:
    file = EXPERIMENTS / "studies" / "everything.yaml"
    assert is_suite(file)
    assert not is_suite(EXPERIMENTS / "studies" / "ease.yaml")
    found = read_suite(file, {})
    names = [plan.name for plan, _ in found.studies]
    assert names[-1] == "ncf"
    assert {"item_knn", "user_knn", "svd", "als", "ease", "sequential_ridge"} < set(names)
    assert {each.name for each in found.fixed} >= {"random", "most_popular"}
    for plan, beside in found.studies:  # what a study learns beside comes before it
        assert {each.name for each in beside} <= set(names[: names.index(plan.name)])
