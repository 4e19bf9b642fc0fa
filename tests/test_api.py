"""The method as functions: the numbers of the commands, without MLflow."""

from __future__ import annotations

import re
import subprocess
import sys

import pandas as pd
import pytest

from pipeline.api import Fitted, compare, evaluate, fit, load, recommend
from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from tests.steps.workplace import Workplace, environment

WITHOUT_MLFLOW = """
import sys
from pipeline.api import compare, evaluate, fit, load
heavy = {"torch", "mlflow", "pandas"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
ratings = load("ratings.csv")
print(compare([evaluate(fit(model, ratings)) for model in ("most_popular", "ease")]))
assert "mlflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def popular(dataset: Dataset) -> Fitted:
    return fit("most_popular", dataset)


@pytest.fixture(scope="module")
def ease(dataset: Dataset) -> Fitted:
    return fit("ease", dataset)


def test_a_file_of_ones_own_has_the_numbers_of_the_commands(workplace: Workplace) -> None:
    assert workplace.cli("train", "--config=small.yaml", "--dataset=ratings.csv").status == 0
    run = workplace.run(step="train")
    assert workplace.cli("evaluate", f"--run_id={run.info.run_id}").status == 0
    logged = workplace.run(step="train").data.metrics
    with workplace.entered():
        fitted = fit("small.yaml", load("ratings.csv"))
        metrics = evaluate(fitted).metrics
    assert metrics == {name: logged[f"test/{name}"] for name in metrics}
    assert len(metrics) == 12
    validated = {name: logged[f"val/{name}"] for name in fitted.validation.mean}
    assert fitted.validation.mean == validated
    assert fitted.validation.epochs == logged["val/epochs"]


def test_it_imports_little_and_no_mlflow(workplace: Workplace) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW],
        cwd=workplace.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^most_popular +0\.\d{4}", done.stdout, re.MULTILINE)


def test_models_are_compared_on_the_same_test(popular: Fitted, ease: Fitted) -> None:
    tests = [evaluate(popular), evaluate(ease)]
    found = compare(tests, baseline="most_popular")
    rows = {row.name: row.cells["ndcg"] for row in found.comparison.rows}
    assert rows.keys() == {"most_popular", "ease"}
    for tested in tests:
        name, values = tested.experiment.name, tested.per_user["ndcg_at_10"]
        assert rows[name].mean == pytest.approx(values.mean())
    gain = tests[1].per_user["ndcg_at_10"] - tests[0].per_user["ndcg_at_10"]
    assert rows["ease"].difference == pytest.approx(gain.mean())
    assert "paired permutation test over users" in str(found)
    assert "| ease |" in found._repr_markdown_()


def test_seeds_are_one_row_and_other_settings_another(dataset: Dataset, popular: Fitted) -> None:
    fits = [fit("svd", dataset, seed=seed, windows=()) for seed in (1, 2)]
    fits.append(fit("svd", dataset, name="svd 2", components=2, windows=()))
    found = compare(evaluate(each) for each in [popular, *fits])
    assert {row.name: len(row.run_ids) for row in found.comparison.rows} == {
        "most_popular": 1, "svd": 2, "svd 2": 1
    }  # fmt: skip


def test_another_split_is_not_ranked_with_it(
    ratings: pd.DataFrame, popular: Fitted, dataset: Dataset
) -> None:
    settings = dataset.split.model_copy(update={"test_cut": 0.7})
    earlier = Dataset.from_ratings("small", ratings, dataset.items, settings)
    tests = [evaluate(popular), evaluate(fit("random", dataset))]
    tests.append(evaluate(fit("most_popular", earlier)))
    comparison = compare(tests).comparison
    assert len(comparison.rows) == 2
    (apart,) = comparison.apart
    assert f"fingerprint {earlier.fingerprint}, split time-0.7" in apart


def test_samples_of_users_are_ranked_among_themselves(dataset: Dataset, popular: Fitted) -> None:
    models = ("most_popular", "ease", "random")
    tests = [evaluate(fit(each, dataset, eval_users=8, windows=())) for each in models]
    sample = f"8 of {len(dataset.test_users)} users"
    assert {tested.sample for tested in tests} == {sample}
    other = evaluate(fit("random", dataset, eval_users=5, windows=()))
    comparison = compare([*tests, other, evaluate(popular)]).comparison
    assert {row.name for row in comparison.rows} == set(models)
    assert len(comparison.values) == 8
    assert f"a sample of {sample}" in str(compare(tests))
    assert set(comparison.apart) == {
        "all test users", f"a sample of {sample.replace('8 of', '5 of')}"
    }  # fmt: skip


def test_lists_for_users_and_for_people_who_say_what_they_like(ease: Fitted) -> None:
    lists = evaluate(ease).lists
    user = lists["user"].iloc[0]
    items = lists["item"][lists["user"] == user].tolist()
    answer = recommend(ease, [str(user)], likes=[items[:2]], k=5)
    assert answer["item"][answer["user"] == str(user)].tolist() == [str(x) for x in items[:5]]
    strangers = answer[answer["user"] == ""]
    assert set(strangers["fallback"]) == {"folded in"}
    assert not set(strangers["item"]) & {str(item) for item in items[:2]}


def test_a_model_that_is_not_personal_says_so(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    fitted = fit("ncf", dataset, epochs=1, learning_rate=1e-9, start=None, windows=(0.85,))
    assert fitted.warnings
    assert fitted.warnings[0].note in caplog.text


def test_mistakes_are_told(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="test_cut is a field of the split: give it to load"):
        fit("ease", dataset, test_cut=0.9)
    with pytest.raises(UserError, match="unknown model 'eese' \\(did you mean 'ease'"):
        fit("eese", dataset)
    with pytest.raises(UserError, match="penalty='much'"):
        fit("ease", dataset, penalty="much")
    with pytest.raises(UserError, match="neither a known name nor an existing file"):
        load("nowhere.csv")
