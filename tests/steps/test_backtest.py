"""backtest: the same settings at several cuts, what is left behind, and what it refuses."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.compare.entrants import Entrant, admitted
from pipeline.compare.over_time import Backtest, Cut, Refitted
from pipeline.compare.over_time_tables import csv, section
from pipeline.config import read_experiment
from pipeline.errors import UserError
from tests.steps.workplace import Workplace

FILES = ("--experiments", "popular.yaml,svd.yaml")
DATA = ("--dataset", "ratings.csv")
N_USERS = 120


@pytest.fixture(scope="module")
def place(shared: Workplace) -> Workplace:
    (shared.folder / "popular.yaml").write_text("model: most_popular\n")
    (shared.folder / "svd.yaml").write_text("model: svd\ncomponents: 4\n")
    (shared.folder / "few.yaml").write_text("model: most_popular\nmin_held_out: 3\n")
    (shared.folder / "bare.yaml").write_text("model: most_popular_unmasked\n")
    return shared


def children(place: Workplace, parent: MlflowRun) -> list[MlflowRun]:
    found = place.client.search_runs(["0"], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    return list(found)


def trained(place: Workplace, *words: str) -> MlflowRun:
    """A run of train, evaluated."""
    outcome = place.cli("train", *DATA, *words)
    assert outcome.status == 0, outcome.told
    found = re.search(r"train \w+: (?:reused )?run (\w+)", outcome.told)
    assert found is not None
    assert place.cli("evaluate", "--run_id", found[1]).status == 0
    return place.client.get_run(found[1])


def test_time_and_what_is_left_to_the_data_are_the_same_protocol(place: Workplace) -> None:
    """A run of before auto says time, a file of today says nothing."""
    file = place.folder / "popular.yaml"
    silent, timed, drawn = (
        Entrant(read_experiment(file, fields))
        for fields in ({}, {"protocol": "time"}, {"protocol": "random"})
    )
    assert admitted([silent, timed], "ndcg_at_10", None) == [silent, timed]
    with pytest.raises(UserError, match="protocol is random and time: expected the same"):
        admitted([silent, drawn], "ndcg_at_10", None)


def test_every_cut_is_what_train_and_evaluate_give_there(place: Workplace) -> None:
    outcome = place.cli("backtest", *FILES, *DATA, "--cuts", ".7,.8", "--baseline", "popular")
    assert outcome.status == 0, outcome.told
    parent = place.run(step="backtest", model="none")
    table = pd.read_csv(place.artifact(parent, "backtest.csv")).set_index(["experiment", "cut"])
    means = table["mean"]
    for name, cut in (("popular", "0.8"), ("svd", "0.7")):
        run = trained(place, "--config", f"{name}.yaml", f"--test_cut={cut}")
        assert means[name, cut] == pytest.approx(run.data.metrics["test/ndcg_at_10"])
    for name in ("popular", "svd"):
        at_cuts = [means[name, cut] for cut in ("0.7", "0.8")]
        assert means[name, "mean"] == pytest.approx(np.mean(at_cuts))
        key = f"backtest/{name}/ndcg_at_10"
        assert list(place.history(parent, key).values()) == pytest.approx(at_cuts)
    assert len(children(place, parent)) == 4
    assert "Cut 0.7 is earlier than 0.8, where the training part of" in outcome.told
    assert place.artifact(parent, "figures/over_time.png").stat().st_size > 0
    assert "| popular |" in place.artifact(parent, "backtest.md").read_text()
    page = place.artifact(parent, "report.html").read_text()
    assert f"Report to send: data/reports/backtest-{parent.info.run_id[:8]}.html" in outcome.told
    assert all(f"/runs/{each.info.run_id}?" in page for each in children(place, parent))
    assert "<dt>Cuts</dt><dd>0.7 (" in page


def test_it_is_no_part_of_other_comparisons(place: Workplace) -> None:
    assert place.cli("backtest", *FILES, *DATA, "--cuts", ".8").status == 0
    run = trained(place, "--config", "popular.yaml")
    outcome = place.cli("compare", "--fingerprint", run.data.tags["dataset_fingerprint"])
    assert outcome.status == 0, outcome.told
    found = pd.read_csv(place.artifact(place.runs(step="compare")[0], "comparison.csv"))
    ids = " ".join(found["run_ids"]).split()
    assert run.info.run_id in ids
    compared = [place.client.get_run(run_id).data.tags for run_id in ids]
    assert not [tags for tags in compared if "mlflow.parentRunId" in tags]


def test_a_second_backtest_fits_nothing_again(place: Workplace) -> None:
    command = ("backtest", *FILES, *DATA, "--cuts", ".75")
    assert place.cli(*command).status == 0
    before = len(place.runs(step="backtest", model="svd"))
    again = place.cli(*command)
    assert again.status == 0, again.told
    assert "train svd: reused run" in again.told
    assert len(place.runs(step="backtest", model="svd")) == before


def test_runs_keep_the_epochs_that_they_chose_and_are_told(place: Workplace) -> None:
    ncf = trained(place, "--config", "small.yaml", "--epochs=4", "--patience=1")
    popular = trained(place, "--config", "popular.yaml")
    ids = f"{ncf.info.run_id},{popular.info.run_id}"
    outcome = place.cli("backtest", "--run_ids", ids, "--cuts", ".8", "--baseline", "popular")
    assert outcome.status == 0, outcome.told
    (child,) = place.runs(step="backtest", experiment="small")
    assert float(child.data.params["epochs"]) == ncf.data.metrics["val/epochs"]
    assert child.data.params["patience"] == "none"
    assert not [name for name in child.data.metrics if name.startswith("val/")]
    told = place.client.get_run(ncf.info.run_id).data.tags
    assert told["backtest"] == place.runs(step="backtest", model="none")[0].info.run_id
    assert "popular at " in told["backtest_holds"]
    compared = place.cli("compare", "--run_ids", ids)
    assert f"in a backtest: {told['backtest_holds']}" in " ".join(compared.told.split())


def test_what_is_masked_in_another_way_is_left_out(place: Workplace) -> None:
    words = ("backtest", "--experiments", "popular.yaml,bare.yaml", *DATA, "--cuts", ".8")
    outcome = place.cli(*words)
    assert outcome.status == 0, outcome.told
    assert "Left out, seen items are not masked: bare" in outcome.told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Give --run_ids of finished runs, --experiments (files), a --suite or a --model"),
        ((*FILES, "--metric", "ndgc_at_10"), "metric=ndgc_at_10: expected one of accuracy"),
        ((*FILES, "--metric", "map_at_5"), "popular is evaluated at k = 10, not at 5"),
        ((*FILES, "--baseline", "ease"), "baseline=ease: expected a run's id or an experiment"),
        ((*FILES, "--cuts", ".8,1.2"), "less than 1"),
        ((*FILES, "--cuts", "none"), "cuts is empty"),
        ((*FILES, "--cuts", ".8,.80001"), "are the same moment of ratings.csv"),
        (("--experiments", "svd.yaml,few.yaml"), "min_held_out is 3 and 10"),
        (("--run_ids", "a,b", "--epochs", "3"), "the runs' own settings: give no epochs"),
        ((*FILES, "--cuts", ".8,.9999"), "no user with at least"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_first_fit(
    place: Workplace, words: tuple[str, ...], told: str
) -> None:
    before = len(place.runs(step="backtest"))
    outcome = place.cli("backtest", *DATA, *words)
    assert outcome.status == 1
    assert told in outcome.told
    assert len(place.runs(step="backtest")) == before


def test_another_cut_beside_the_cuts_is_refused(place: Workplace) -> None:
    outcome = place.cli("backtest", *FILES, *DATA, "--test_cut", ".5")
    assert outcome.status == 1
    assert "give no --test_cut" in outcome.told


def test_a_split_without_a_cut_in_time_is_refused(place: Workplace, ratings: pd.DataFrame) -> None:
    folder = place.folder / "given"
    folder.mkdir()
    half = len(ratings) * 4 // 5
    ratings[:half].to_csv(folder / "train.csv", index=False)
    ratings[half:].to_csv(folder / "test.csv", index=False)
    (folder / "meta.json").write_text("{}")
    outcome = place.cli("backtest", *FILES, "--dataset", "given")
    assert outcome.status == 1
    assert "given is split as-given: a backtest moves a cut in time" in outcome.told


def test_a_run_that_is_not_finished_is_refused(place: Workplace) -> None:
    run = trained(place, "--config", "popular.yaml", "--seed=7")
    place.client.update_run(run.info.run_id, "FAILED")
    outcome = place.cli("backtest", "--run_ids", run.info.run_id)
    assert outcome.status == 1
    assert "is FAILED: expected a finished run of train" in outcome.told


def made(place: Workplace, gains: dict[str, list[float]], baseline: str | None) -> Backtest:
    """Experiments with these gains at each cut, on users of whom each is tested at most cuts."""
    rng = np.random.default_rng(0)
    n_cuts = len(next(iter(gains.values())))
    ease = rng.uniform(0.2, 0.5, (N_USERS, n_cuts))
    users = [np.sort(rng.choice(N_USERS, 90, replace=False)) for _ in range(n_cuts)]
    rows = []
    experiment = read_experiment(place.folder / "popular.yaml", {})
    for name, gain in gains.items():
        known = [Entrant(experiment.model_copy(update={"name": name}))]
        values = ease + rng.normal(0, 0.05, ease.shape) + gain
        rows.append(
            [
                Refitted(name, "most_popular", [f"{name}{c}"], known, 3 * u + 10, values[u, c])
                for c, u in enumerate(users)
            ]
        )
    cuts = [Cut(0.8 + 0.05 * c, 10**9 + c, "made", "f" * 16) for c in range(n_cuts)]
    return Backtest.of("ndcg_at_10", cuts, rows, baseline)


def test_what_holds_everywhere_once_or_turns_round_is_told(place: Workplace) -> None:
    gains = {
        "base": [0.0, 0.0, 0.0],
        "always": [0.1, 0.1, 0.1],
        "once": [0.0, 0.1, 0.0],
        "turning": [0.1, -0.1, 0.0],
    }
    found = made(place, gains, "base")
    assert found.names[0] == "always"
    verdicts = {name: found.verdict(i) for i, name in enumerate(found.names)}
    assert verdicts == {
        "base": "the baseline",
        "always": "above base at 3 of 3 cuts",
        "once": "above base at cut 0.85 alone",
        "turning": "above base at cut 0.8 alone and below base at cut 0.85 alone",
    }
    told = list(found.sentences())
    names = {name: i for i, name in enumerate(found.names)}
    assert not [line for line in told if line.startswith("always and base:")]
    once, base = sorted(("once", "base"), key=names.__getitem__)
    (line,) = [line for line in told if line.startswith(f"{once} and {base}:")]
    assert "a difference at cut 0.85 alone, " in line
    assert "not distinguishable at the others" in line
    one, two = sorted(("turning", "base"), key=names.__getitem__)
    (line,) = [line for line in told if line.startswith(f"{one} and {two}:")]
    better, worse = ("0.8", "0.85") if one == "turning" else ("0.85", "0.8")
    assert f"{one} is better at {better}, worse at {worse}." in line


def test_a_run_is_told_what_holds_once_against_another_than_the_baseline(
    place: Workplace,
) -> None:
    gains = {"base": [0.0, 0.0, 0.0], "once": [0.0, 0.1, 0.0], "always": [0.2, 0.2, 0.2]}
    found = made(place, gains, "always")
    told = {name: found.in_words(i) for i, name in enumerate(found.names)}
    assert told == {
        "always": "the baseline",
        "base": "below always at 3 of 3 cuts; below once at cut 0.85 alone",
        "once": "below always at 3 of 3 cuts; above base at cut 0.85 alone",
    }


def test_the_table_counts_users_of_each_cut_and_all_of_them(place: Workplace) -> None:
    found = made(place, {"one": [0.0, 0.0], "two": [0.1, 0.1]}, None)
    table = section(found, detailed=True)
    assert table.heads[1:3] == ["0.8 (90)", "0.85 (90)"]
    assert found.names[found.baseline] == "two"
    assert [text for text, _ in table.rows[1]][-1] == "2 of 2"
    lines = pd.read_csv(io.StringIO(csv(found)))
    assert lines[lines["cut"] == "mean"]["users"].tolist() == [len(found.values)] * 2
    assert 90 < len(found.values) <= N_USERS


def test_a_user_has_one_row_over_all_cuts() -> None:
    users = [np.array([10, 13, 40]), np.array([13, 16]), np.array([10, 40, 70])]
    row = [Refitted("one", "svd", [], [], each, each / 100) for each in users]
    cuts = [Cut(0.8 + 0.05 * c, 10**9 + c, "made", "f" * 16) for c in range(3)]
    values = Backtest.of("ndcg_at_10", cuts, [row], None).values[:, 0]
    missing = np.nan
    expected = [
        [0.1, missing, 0.1],
        [0.13, 0.13, missing],
        [missing, 0.16, missing],
        [0.4, missing, 0.4],
        [missing, missing, 0.7],
    ]
    np.testing.assert_array_equal(values, expected)
