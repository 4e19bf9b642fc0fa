"""compare on small runs in a real store: what is found, asked for and left behind."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.steps.compare import compare
from pipeline.tracking.runs import Run
from pipeline.tracking.search import find_evaluated
from tests.steps.evaluated import DATASET, FINGERPRINT, N_USERS, Store, ranked, row_of


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
