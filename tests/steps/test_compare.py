"""compare on small runs in a real store: who is ranked, what is found, what is left behind."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag

from pipeline.compare.comparison import compare_runs
from pipeline.compare.tables import as_json
from pipeline.errors import UserError
from pipeline.evaluation.significance import smallest_difference
from pipeline.steps.compare import compare
from pipeline.tracking.runs import Run
from pipeline.tracking.search import find_evaluated
from tests.steps.workplace import Workplace

N_USERS = 250
FINGERPRINT = "f" * 16
DATASET = {"dataset": "ml-1m", "dataset_fingerprint": FINGERPRINT, "split": "time 0.8"}


@dataclass
class Store:
    """A tracking store to fill with runs that look like evaluated ones."""

    workplace: Workplace
    users: npt.NDArray[np.float64]
    """Of the users, how easy each is."""
    started: int = 1_700_000_000_000

    def run(
        self,
        name: str,
        skill: float = 0.0,
        *,
        seed: int = 42,
        k: int = 10,
        overlap: float = 0.4,
        coverage: float = 0.1,
        users: range = range(N_USERS),
        per_user: bool = True,
        noise: int | None = None,
        experiment: str = "0",
        params: dict[str, str] | None = None,
        **tags: str,
    ) -> str:
        """An evaluated run whose lists have more hits with more ``skill``; its id."""
        rng = np.random.default_rng([seed, sum(map(ord, name))] if noise is None else noise)
        chance = 1 / (1 + np.exp(0.5 - skill - self.users))
        hits = rng.random((N_USERS, k)) < chance[:, None]
        precision = hits.mean(axis=1)
        table = pd.DataFrame(
            {
                "user": list(users),
                f"ndcg_at_{k}": precision**1.1,
                f"hit_rate_at_{k}": hits.any(axis=1).astype(float),
                f"precision_at_{k}": precision,
                f"popularity_overlap_at_{k}": np.full(N_USERS, overlap),
            }
        )
        metrics = {name: table[name].mean() for name in table if name != "user"}
        metrics[f"coverage_at_{k}"] = coverage
        return self.write(
            name,
            {f"test/{name}": value for name, value in metrics.items()},
            {"seed": str(seed), "embedding_dim": "8", **(params or {})},
            {"step": "train", "model": name, "experiment": name, **DATASET, **tags},
            table if per_user else None,
            experiment,
        )

    def write(
        self,
        name: str,
        metrics: dict[str, float],
        params: dict[str, str],
        tags: dict[str, str],
        table: pd.DataFrame | None = None,
        experiment: str = "0",
    ) -> str:
        """A finished run, later than all before it."""
        client = mlflow.MlflowClient()
        self.started += 1000
        run = client.create_run(experiment, run_name=name, start_time=self.started)
        client.log_batch(
            run.info.run_id,
            [Metric(key, value, self.started, 0) for key, value in metrics.items()],
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )
        if table is not None:
            path = self.workplace.folder / "per_user.parquet"
            table.to_parquet(path, index=False)
            client.log_artifact(run.info.run_id, str(path), "test")
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def compared(self, baseline: str | None = None) -> dict[str, Any]:
        """What there is to find, without figures and a run."""
        return as_json(compare_runs(find_evaluated(None, None), "ndcg_at_10", baseline))


@pytest.fixture
def kept(workplace: Workplace) -> Iterator[Store]:
    """An empty store; this process works with it."""
    with workplace.entered():
        yield Store(workplace, np.random.default_rng(0).normal(size=N_USERS))


def ranked(found: dict[str, Any]) -> list[str]:
    return [row["name"] for row in found["rows"] if row["listed"] == "ranked"]


def row_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = [row for row in found["rows"] if row["name"] == name]
    return dict(row)


def alike(found: dict[str, Any]) -> list[str]:
    """The lines on what cannot be told apart."""
    return [line for line in found["sentences"] if line.startswith("not distinguishable from ")]


def test_a_true_difference_is_found_among_the_models_of_the_ledger(kept: Store) -> None:
    """One of eleven is truly better and one truly worse; the nine equal ones stay equal."""
    names = [f"model_{i}" for i in range(9)]
    for i, name in enumerate([*names, "worse", "better"]):
        kept.run(name, {"better": 0.6, "worse": -0.8}.get(name, 0.0), noise=i)
    found = kept.compared()
    assert ranked(found)[0] == found["baseline"] == "better"
    assert ranked(found)[-1] == "worse"
    ps = {
        (pair["one"], pair["other"]): pair["p_holm"]
        for pair in found["pairs"]
        if pair["metric"] == "ndcg_at_10"
    }
    assert len(ps) == 55
    for (one, other), p in ps.items():
        assert (p < 0.05) == ("better" in (one, other) or "worse" in (one, other)), (one, other)
    cell = row_of(found, "model_0")["cells"]["ndcg"]
    assert cell["low"] < cell["mean"] < cell["high"]
    assert cell["difference_low"] < cell["difference"] < cell["difference_high"] < 0
    assert cell["p_permutation"] <= cell["p_holm"]
    assert cell["p_wilcoxon"] < 0.01


def test_what_a_compare_run_leaves_behind(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept.run("svd", 0.5, noise=1, coverage=0.2)
    kept.run("ease", 0.5, noise=3)
    kept.run("most_popular", -0.5, overlap=1.0)
    returned = compare()
    run = kept.workplace.run(step="compare")
    assert run.info.status == "FINISHED"
    assert run.data.tags["model"] == "none"
    assert {name: run.data.tags[name] for name in DATASET} == DATASET
    assert run.data.tags["mlflow.note.content"] == returned
    table = kept.workplace.artifact(run, "comparison.md").read_text()
    assert table == returned
    assert "| svd | **0." in table
    lines = list(
        csv.DictReader(io.StringIO(kept.workplace.artifact(run, "comparison.csv").read_text()))
    )
    (line,) = [
        line
        for line in lines
        if line["experiment"] == "most_popular" and line["metric"] == "ndcg_at_10"
    ]
    assert float(line["p_holm"]) < 0.05
    assert float(line["difference"]) < 0
    figures = kept.workplace.artifact(run, "figures")
    names = ("trade_off", "differences", "metrics", "users")
    assert {path.name for path in figures.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "csv")
    }
    drawn = pd.read_csv(figures / "differences.csv")
    assert float(drawn.set_index("experiment").loc["most_popular", "difference"]) == pytest.approx(
        float(line["difference"])
    )
    assert "report.html" not in kept.workplace.files(run)
    told = capsys.readouterr().err
    assert "not distinguishable from svd: ease (p " in told
    assert "† differs from the baseline, svd: p < .05" in told
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    page += "?workflowType=machine_learning"
    assert told.strip().splitlines()[-1] == (
        f"See it: python -m pipeline ui, then http://127.0.0.1:5000{page}"
    )


def test_a_report_to_send(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """What users have named is text in it; its links lead to the runs."""
    evil = "<script>alert('svd')</script>"
    best = kept.run(evil, 0.5, coverage=0.2)
    kept.run("ease", 0.5, noise=3)
    kept.run("most_popular", -0.5, overlap=1.0)
    compare(report=True)
    run = kept.workplace.run(step="compare")
    page = kept.workplace.artifact(run, "report.html").read_text()
    told = capsys.readouterr().err.strip().splitlines()[-1]
    file = Path("data") / "reports" / f"compare-{run.info.run_id[:8]}.html"
    assert told == f"Report to send: {file}"
    assert (kept.workplace.folder / file).read_text() == page
    assert "<script" not in page
    text = html.unescape(page)
    assert f"ndcg is lower than that of {evil}: most_popular (-0." in text
    assert f"not distinguishable from {evil}: ease (p " in text
    assert "time 0.8" in text
    assert f"{N_USERS} users" in text
    assert f"/#/experiments/0/runs/{best}?" in text
    assert page.count('src="data:image/svg+xml;base64,') == 4
    assert "<h2>What may not be concluded</h2>" in page


def test_what_is_the_same_of_many_is_said_once(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    held = "not distinguishable from svd at any of 4 cuts"
    for name in ("als", "ease", "slim"):
        kept.run(name, backtest_holds=held if name != "slim" else "below svd at 4 of 4 cuts")
    compare()
    told = capsys.readouterr().err
    (line,) = [line for line in told.splitlines() if held in line]
    names, _, said = line.partition(": ")
    assert sorted(names.split(", ")) == ["als", "ease"]
    assert said == f"in a backtest: {held}."
    assert "slim: in a backtest: below svd at 4 of 4 cuts." in told
    assert told.count("1 configuration (1 run)") == told.count("1 configuration (1 run) each") == 1


def test_lists_have_neither_interval_nor_test(kept: Store) -> None:
    kept.run("svd")
    kept.run("ease")
    for row in kept.compared()["rows"]:
        assert row["cells"]["coverage"]["mean"] == 0.1
        assert row["cells"]["coverage"]["low"] is row["cells"]["coverage"]["p_holm"] is None


def test_only_like_is_ranked_with_like(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept.run("svd")
    kept.run("ease")
    kept.run("als", mask="seen")  # said, or left unsaid
    kept.run("most_popular_unmasked", 3.0, mask="none")
    kept.run("older", 3.0, dataset_fingerprint="0" * 16)
    kept.run("otherwise", 3.0, split="time 0.9")
    kept.run("longer", 3.0, k=20)
    compare()
    found = kept.compared()
    assert sorted(ranked(found)) == ["als", "ease", "svd"]
    assert {row["name"]: row["listed"] for row in found["rows"][3:]} == {
        "most_popular_unmasked": "apart: seen items not masked",
        "older": "apart: fingerprint 0000000000000000",
        "otherwise": "apart: split time 0.9",
        "longer": "apart: k = 20",
    }
    assert {name for pair in found["pairs"] for name in (pair["one"], pair["other"])} == {
        "als", "ease", "svd",
    }  # fmt: skip
    assert "Apart, not to be ranked with these: k = 20" in capsys.readouterr().err


def test_the_baseline_chooses_who_is_ranked(kept: Store) -> None:
    kept.run("svd", 0.5)
    kept.run("ease", 0.5)
    kept.run("als", 0.5)
    kept.run("plain", mask="none")
    run_id = kept.run("bold", 0.5, mask="none")
    found = kept.compared(baseline="plain")
    assert ranked(found) == ["bold", "plain"]
    assert found["baseline"] == "plain"
    assert row_of(found, "bold")["cells"]["ndcg"]["difference"] > 0
    assert row_of(found, "plain")["cells"]["ndcg"]["difference"] is None
    assert kept.compared(baseline=run_id)["baseline"] == "bold"


def test_a_row_that_is_like_neither_the_baseline_nor_the_best_says_so_of_both(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for noise, name in enumerate(("svd", "ease", "als")):
        kept.run(name, noise=noise)
    found = kept.compared()
    best, second, last = ranked(found)
    sentences = alike(kept.compared(baseline=last))
    assert [
        f"not distinguishable from {other}: " in said and second in said
        for other, said in zip((last, best), sentences, strict=True)
    ] == [True, True]
    capsys.readouterr()
    compare(baseline=last)
    assert capsys.readouterr().err.count("not distinguishable from") == 2


def test_what_cannot_be_told_apart_takes_a_line(kept: Store) -> None:
    for noise in range(11):
        kept.run(f"model_{noise}", noise=noise)
    (line,) = alike(kept.compared())
    assert line.count("(p ") == 10
    assert "; nor on another metric of accuracy: " in line


def test_too_few_users_to_tell(kept: Store) -> None:
    for skill, name in enumerate(("svd", "ease", "slim")):
        kept.run(name, skill / 2)
    assert not any("Too small" in said for said in kept.compared()["sentences"])
    values = []
    for name, noise in (("als", 0), ("knn", 1)):
        run_id = kept.run(name, noise=noise, mask="none")
        run = kept.workplace.client.get_run(run_id)
        path = kept.workplace.artifact(run, "test/per_user.parquet")
        table = pd.read_parquet(path)[:60]
        table.to_parquet(path, index=False)
        for column in table.columns[1:]:
            kept.workplace.client.log_metric(run_id, f"test/{column}", table[column].mean())
        values.append(table["ndcg_at_10"])
    found = kept.compared(baseline="als")
    said = found["sentences"][0]
    assert said.startswith("Too small to tell: 60 users; a difference below 0.")
    assert "lower min_warm_training or min_held_out, an earlier test_cut, or more data" in said
    spread = float(np.std(values[0] - values[1], ddof=1))
    assert found["smallest_difference"] == pytest.approx(smallest_difference(spread, 60))
    assert f"below {found['smallest_difference']:.4f} cannot be expected" in said


@pytest.mark.parametrize(
    ("split", "more"),
    [
        ("as-given", "More users: more data."),
        ("random-0.2-5-15-10", "lower min_warm_training or min_held_out, or more data."),
        ("time-0.8-5-15-10", "min_held_out, an earlier test_cut, or more data."),
    ],
)
def test_what_would_give_more_users_depends_on_the_split(
    kept: Store, split: str, more: str
) -> None:
    kept.run("svd", noise=1, split=split)
    kept.run("twin", noise=2, skill=0.01, split=split)
    (said,) = (line for line in kept.compared()["sentences"] if line.startswith("Too small"))
    assert said.endswith(more)


def test_many_users_are_too_few_for_a_spread_that_is_smaller_yet(kept: Store) -> None:
    kept.run("svd", noise=1)
    run_id = kept.run("twin", noise=1)
    path = kept.workplace.artifact(kept.workplace.client.get_run(run_id), "test/per_user.parquet")
    table = pd.read_parquet(path)
    ndcg = table["ndcg_at_10"].to_numpy()
    table["ndcg_at_10"] = np.roll(ndcg, 1)  # the same mean, of other users
    table.to_parquet(path, index=False)
    found = kept.compared()
    assert found["users"] == N_USERS
    assert found["sentences"][0].startswith(f"Too small to tell: {N_USERS} users; a difference")
    assert "best and worst are 0.0000 apart" in found["sentences"][0]


def test_a_seed_that_was_picked_is_named(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [kept.run("ncf", 0.2, seed=seed) for seed in (1, 2, 3, 4, 5)]
    other = kept.run("svd")
    kept.run("ncf", 0.2, seed=1, params={"embedding_dim": "4"})
    kept.run("ncf", 0.2, seed=6, dataset_fingerprint="0" * 16)
    compare(run_ids=[ids[2], other])
    told = " ".join(capsys.readouterr().err.split())
    ndcg = kept.workplace.client.get_run(ids[0]).data.metrics["test/ndcg_at_10"]
    assert "ncf: 1 of the 5 seeds evaluated on this data is compared; left out: runs " in told
    assert f"{ids[0]} (ndcg_at_10 {ndcg:.4f})" in told
    assert "give them too" in told
    assert "Evaluated on this test so far: " in told
    assert "ncf 2 configurations (6 runs)" in told
    assert "svd 1 configuration (1 run)" in told
    compare(run_ids=[*ids, other])
    assert "left out: runs" not in capsys.readouterr().err
    content = kept.workplace.json(kept.workplace.runs(step="compare")[0], "comparison.json")
    assert content["looks"]["ncf"] == {"configurations": 2, "runs": 6}


def test_splits_that_know_the_future_stand_apart_and_say_so(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.run("svd")
    kept.run("ease")
    kept.run("knn", 3.0, split="random-0.2-5-15-10")
    compare()
    told = capsys.readouterr().err
    assert "with these: split random-0.2-5-15-10, which knows the future" in " ".join(told.split())
    assert "knows the future: models train on what came after the test" not in told
    compare(baseline="knn")
    told = " ".join(capsys.readouterr().err.split())
    assert "random-0.2-5-15-10 knows the future: models train on what came after the test" in told


def test_a_model_that_is_worse_than_what_is_popular(kept: Store) -> None:
    kept.run("most_popular", 0.5, overlap=1.0)
    kept.run("svd", -0.8)
    (said,) = row_of(kept.compared(), "svd")["sentences"]
    assert said == "is worse than most_popular (p < .001)"


def test_seeds_of_one_experiment_are_one_row(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [kept.run("ncf", 0.2, seed=seed) for seed in (1, 2, 3)]
    kept.run("svd", 0.5)
    compare()
    found = kept.compared()
    row = row_of(found, "ncf")
    assert sorted(row["run_ids"]) == sorted(ids)
    means = [kept.workplace.client.get_run(i).data.metrics["test/ndcg_at_10"] for i in ids]
    assert row["cells"]["ndcg"]["mean"] == pytest.approx(np.mean(means))
    assert row["cells"]["ndcg"]["seed_std"] == pytest.approx(np.std(means, ddof=1))
    assert row_of(found, "svd")["cells"]["ndcg"]["seed_std"] is None
    assert f"3 ± {np.std(means, ddof=1):.4f}" in capsys.readouterr().err


def test_of_one_seed_the_latest_run_counts(kept: Store) -> None:
    kept.run("svd", -1.0)
    latest = kept.run("svd", 1.0, noise=1, params={"embedding_dim": "8.0"})  # as a flag spells it
    kept.run("ease")
    assert row_of(kept.compared(), "svd")["run_ids"] == [latest]


def test_settings_tell_experiments_of_one_name_apart(kept: Store) -> None:
    kept.run("ncf", params={"learning_rate": "1e-4", "config": "one.yaml", "embedding_dim": "4"})
    kept.run("ncf", params={"learning_rate": "0.0001", "config": "two.yaml"}, noise=1)
    kept.run("svd")
    found = kept.compared()
    assert sorted(ranked(found)) == ["ncf embedding_dim=4", "ncf embedding_dim=8", "svd"]
    with pytest.raises(UserError, match=r"baseline=ncf: expected one .* embedding_dim=4 \(run"):
        compare(baseline="ncf")
    assert kept.compared(baseline="ncf embedding_dim=4")["baseline"] == "ncf embedding_dim=4"


def test_rows_of_the_ledger_stand_apart_and_are_not_tested(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.run("svd")
    kept.run("ease")
    imported = {"source": "ledger-csv", "step": "import_ledger", "dataset": "unknown"}
    warning = {"audit": "impossible", "warning_note": "172.5 items is no whole number"}
    ndcg = {"test/ndcg_at_10": 0.9}
    kept.write("NCF_BCE", ndcg, {}, {**imported, **warning, "experiment": "ncf_bce"})
    kept.write("SVD", ndcg, {}, {**imported, "dataset": "ml-1m", "experiment": "svd"})
    kept.write("Popular", ndcg, {}, {**imported, "mask": "none"})
    kept.write("Else", ndcg, {}, {**imported, "dataset": "ml-20m"})
    compare()
    found = kept.compared()
    assert sorted(ranked(found)) == ["ease", "svd"]
    listed = {row["name"]: row["listed"] for row in found["rows"]}
    assert listed["NCF_BCE"] == listed["SVD"] == listed["Popular"] == "ledger"
    assert "dataset ml-20m" in listed["Else"]
    assert row_of(found, "SVD")["cells"]["ndcg"]["low"] is None
    told = capsys.readouterr().err
    assert "From the ledger: without values per user, so neither ranked nor tested" in told
    assert "NCF_BCE: cannot be true: 172.5 items is no whole number." in told
    assert "Popular: seen items not masked." in told


def test_only_models_that_are_not_popularity_are_told_to_recommend_it(kept: Store) -> None:
    kept.run("ncf_bpr", overlap=0.957)
    kept.run("most_popular", overlap=1.0)
    kept.run("svd", overlap=0.89)
    found = kept.compared()
    said = {name: row_of(found, name)["sentences"] for name in ranked(found)}
    assert "recommends the popularity list (96 % overlap)" in said["ncf_bpr"]
    assert not any("recommends" in each for each in said["most_popular"] + said["svd"])


def test_one_list_for_everybody_is_told(kept: Store) -> None:
    kept.run("ncf", warning="collapsed-to-one-list, collapsed-parameters")
    kept.run("svd", warning="worse-than-most-popular")
    found = kept.compared()
    assert "recommends one list to everybody" in row_of(found, "ncf")["sentences"]
    assert "recommends one list to everybody" not in row_of(found, "svd")["sentences"]


def test_runs_are_found_by_experiment_ids_or_fingerprint(kept: Store) -> None:
    other = kept.workplace.client.create_experiment(
        "elsewhere", artifact_location=str(kept.workplace.folder / "mlruns" / "elsewhere")
    )
    ids = [kept.run(name) for name in ("svd", "ease")]
    kept.run("als", experiment=other)
    kept.run("slim", experiment=other)
    kept.run("knn", experiment=other, dataset_fingerprint="0" * 16)

    def found(experiment: str | None, fingerprint: str | None) -> list[str]:
        return sorted(run.name for run in find_evaluated(experiment, fingerprint))

    assert found(None, None) == ["ease", "svd"]
    assert found("elsewhere", None) == found(other, None) == ["als", "knn", "slim"]
    assert found(None, FINGERPRINT) == ["als", "ease", "slim", "svd"]
    assert found(other, "0" * 16) == ["knn"]
    compare(run_ids=[ids[0], ids[0]])
    content = kept.workplace.json(kept.workplace.run(step="compare"), "comparison.json")
    assert [row["run_ids"] for row in content["rows"]] == [[ids[0]]]


def test_runs_that_are_not_evaluated_are_no_part_of_it(kept: Store) -> None:
    kept.run("svd")
    kept.run("ease", step="tune")
    run_id = kept.write("raw", {"val/ndcg_at_10": 0.3}, {}, {"step": "train", **DATASET})
    assert ranked(kept.compared()) == ["svd"]
    with pytest.raises(UserError, match=f"evaluate --run_id {run_id}"):
        compare(run_ids=[run_id])


def test_a_single_experiment_has_nothing_to_differ_from(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.run("svd")
    compare()
    assert kept.compared()["pairs"] == []
    told = capsys.readouterr().err
    assert "One experiment: there is nothing to compare it with." in told
    assert "†" not in told


def test_a_run_without_per_user_values_is_left_out_with_a_warning(
    kept: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.compare.contenders.log.propagate", True)
    run_id = kept.run("svd", per_user=False)
    with pytest.raises(UserError, match=r"No run has per-user values \(test/per_user.parquet\)"):
        compare()
    kept.run("ease")
    assert ranked(kept.compared()) == ["ease"]
    assert f"Left out: Run {run_id} has no artifact test/per_user.parquet" in caplog.text


def test_other_users_on_the_same_data_are_an_error(kept: Store) -> None:
    one = kept.run("svd")
    other = kept.run("ease", users=range(1, N_USERS + 1))
    with pytest.raises(UserError, match="different users") as caught:
        compare()
    assert one in str(caught.value)
    assert other in str(caught.value)


def test_rows_of_users_may_stand_in_any_order(kept: Store) -> None:
    """The same values for the same users, the other way round: no difference at all."""
    kept.run("svd", noise=1)
    run_id = kept.run("mirror", noise=1)
    path = kept.workplace.artifact(kept.workplace.client.get_run(run_id), "test/per_user.parquet")
    pd.read_parquet(path)[::-1].to_parquet(path, index=False)
    (pair,) = [pair for pair in kept.compared()["pairs"] if pair["metric"] == "ndcg_at_10"]
    assert pair["difference_low"] == pair["difference_high"] == 0
    assert pair["p_wilcoxon"] == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metric": "coverage_at_10"}, "expected one of accuracy with its k"),
        ({"metric": "ndcg"}, "as in ndcg_at_10"),
        ({"metric": "ndcg_at_5"}, "No evaluated run of train has ndcg_at_5; .* k = 10"),
        ({"baseline": "sdv"}, "baseline=sdv: no compared run .* these are: ease, svd"),
        ({"experiment": "nowhere"}, "name or id 'nowhere'. It has: Default"),
        ({"fingerprint": "abc"}, "No evaluated run of train has ndcg_at_10"),
        ({"run_ids": ["abc"]}, "Run abc: sqlite"),
        ({"run_ids": ["abc"], "experiment": "0"}, "give no --experiment"),
    ],
)
def test_mistakes_are_told(kept: Store, asked: dict[str, Any], message: str) -> None:
    kept.run("svd")
    kept.run("ease")
    with pytest.raises(UserError, match=message):
        compare(**asked)
    assert kept.workplace.runs(step="compare") == []


def test_the_description_of_many_experiments_is_cut_at_a_line(kept: Store) -> None:
    for i in range(20):
        kept.run(f"experiment_{i}_{'with_a_long_name_' * 6}")
    note = compare()
    run = kept.workplace.run(step="compare")
    whole = kept.workplace.artifact(run, "comparison.md").read_text()
    assert len(note) < 8000 < len(whole)
    kept_lines, told = note.split("\n\n... ")
    assert whole.startswith(f"{kept_lines}\n")
    assert told == "the rest is in the artifact comparison.md"
    assert run.data.tags["mlflow.note.content"] == note


def test_the_same_runs_give_the_same_numbers_again(kept: Store) -> None:
    kept.run("svd")
    kept.run("ease", 0.1)
    assert json.dumps(kept.compared()) == json.dumps(kept.compared())


def test_a_compare_run_under_a_parent(kept: Store) -> None:
    kept.run("svd")
    client = mlflow.MlflowClient()
    parent = client.create_run("0")
    compare(parent=Run(parent.info.run_id))
    run = kept.workplace.run(step="compare")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_dir()
