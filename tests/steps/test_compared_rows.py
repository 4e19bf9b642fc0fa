"""compare on small runs in a real store: who is ranked with whom, and what is said of whom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.significance import smallest_difference
from pipeline.steps.compare import compare
from tests.steps.evaluated import N_USERS, Store, alike, ranked, row_of


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
