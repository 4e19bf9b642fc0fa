"""train: validation, the fit, what the run holds, and when a finished run is taken again."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run as MlflowRun

from pipeline.training.checkpoint import Journal
from pipeline.training.losses import LOSSES
from tests.steps.workplace import Outcome, Workplace, equal, untimed

TRAIN = ("train", "--config", "small.yaml", "--dataset", "ratings.csv")
COLLAPSING = ("--loss=bpr", "--weight_decay=0.01", "--patience=none")
WINDOWS = ("window_0.7", "window_0.85")


@pytest.fixture(scope="module")
def outcome(shared: Workplace) -> Outcome:
    outcome = shared.cli(*TRAIN)
    assert outcome.status == 0, outcome.told
    return outcome


@pytest.fixture(scope="module")
def run(shared: Workplace, outcome: Outcome) -> MlflowRun:
    return shared.run(step="train")


def test_tags(run: MlflowRun) -> None:
    wanted = {
        "step": "train",
        "model": "ncf",
        "experiment": "small",
        "dataset": "ratings",
        "split": "time-0.8-5-15-10",
    }
    assert {name: run.data.tags[name] for name in wanted} == wanted
    assert len(run.data.tags["dataset_fingerprint"]) == 16
    assert run.data.tags["device"]
    assert {"git_commit", "git_dirty"} <= run.data.tags.keys()
    assert "warning" not in run.data.tags
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "small"


def test_parameters_are_the_whole_experiment_and_the_dataset(run: MlflowRun) -> None:
    params = run.data.params
    assert params["learning_rate"] == "0.01"
    assert params["layers"] == "8,4"
    assert params["windows"] == "0.7,0.85"
    assert params["k"] == "10"  # a list of one is a number, by which the UI can sort
    assert params["device"] in ("cpu", "cuda")  # and not auto, of which it was made
    assert params["values"] != "auto"
    assert params["protocol"] == "time"
    assert run.data.tags["values"] == "ratings"
    assert not [name for name in run.data.metrics if name.startswith("data/")]
    assert params["min_held_out"] == "10"
    assert params["weight_decay"] == "0.0"  # a default
    assert params["dataset"] == "ratings.csv"
    assert params["epochs"] == "8"


def test_the_dataset_is_an_input(run: MlflowRun) -> None:
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.digest == run.data.tags["dataset_fingerprint"]
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "training"}


def test_patience_ends_windows_and_chooses_the_epochs_of_the_final_fit(
    shared: Workplace, run: MlflowRun
) -> None:
    curves = [shared.history(run, f"val/{window}/ndcg_at_10") for window in WINDOWS]
    for curve in curves:
        assert list(curve) == list(range(1, len(curve) + 1))
        best = max(curve, key=lambda epoch: curve[epoch])
        assert len(curve) == min(8, best + 2)  # patience
    length = min(len(curve) for curve in curves)
    means = [sum(curve[epoch] for curve in curves) / 2 for epoch in range(1, length + 1)]
    chosen = means.index(max(means)) + 1
    assert 1 < chosen < 8, "of no use to this test: choose another seed"
    assert shared.json(run, "validation.json")["epochs"] == chosen
    assert list(shared.history(run, "train/loss")) == list(range(1, chosen + 1))


def test_validation_is_the_mean_over_windows_at_the_chosen_epoch(
    shared: Workplace, run: MlflowRun
) -> None:
    chosen = shared.json(run, "validation.json")["epochs"]
    for name in ("ndcg_at_10", "coverage_at_10", "popularity_overlap_at_10", "recall_at_10"):
        values = [shared.history(run, f"val/{window}/{name}")[chosen] for window in WINDOWS]
        assert shared.history(run, f"val/{name}") == {chosen: pytest.approx(sum(values) / 2)}
        assert values[0] != values[1]


def test_pages_that_compare_runs_begin_with_ndcg_of_validation(
    workplace: Workplace, run: MlflowRun
) -> None:
    """They begin with what was logged first: of a model without epochs, the mean over windows."""
    data = ("--dataset", "ratings.csv", "--windows=0.7,0.85")
    assert workplace.cli("train", "--model", "svd", *data).status == 0
    found = workplace.run(step="train").data.metrics
    assert next(iter(found)) == "val/ndcg_at_10"
    windows = [found[f"val/{name}/ndcg_at_10"] for name in WINDOWS]
    assert found["val/ndcg_at_10"] == pytest.approx(np.mean(windows))
    assert next(iter(run.data.metrics)) == "val/window_0.7/ndcg_at_10"  # the epochs come first


def test_every_epoch_has_its_metrics(shared: Workplace, run: MlflowRun) -> None:
    epochs = set(shared.history(run, "train/loss"))
    for name in ("loss_sum", "examples_per_second", "epoch_seconds"):
        assert set(shared.history(run, f"train/{name}")) == epochs
    losses = list(shared.history(run, "train/loss").values())
    assert losses[-1] < losses[0]


def test_the_description_is_a_table(run: MlflowRun) -> None:
    note = run.data.tags["mlflow.note.content"]
    assert "| metric | validation | test |" in note
    assert f"| ndcg_at_10 | {run.data.metrics['val/ndcg_at_10']:.4f} |  |" in note
    assert "Warning" not in note


def test_the_end_shows_validation_beside_popularity_and_what_is_next(
    run: MlflowRun, outcome: Outcome
) -> None:
    end = outcome.told.partition("small on ratings: validation, at 10\n")[2]
    metrics, popular = run.data.metrics, json.loads(run.data.tags["most_popular"])
    names = ("ndcg", "hit_rate", "coverage", "popularity_overlap")
    shown = " ".join(f"{metrics[f'val/{name}_at_10']:.4f}" for name in names)
    assert shown in " ".join(end.split())
    assert re.search(rf"most_popular +{popular['val/ndcg_at_10']:.4f}", end)
    page = f"http://127.0.0.1:5000/#/experiments/0/runs/{run.info.run_id}"
    page += "?workflowType=machine_learning"
    assert f"Run: {run.info.run_id}\nSee it: python -m pipeline ui, then {page}\nNext:\n" in end
    assert end.endswith(f"  python -m pipeline evaluate --run_id {run.info.run_id}\n")


def test_the_run_keeps_checkpoint_and_environment(shared: Workplace, run: MlflowRun) -> None:
    assert shared.artifact(run, "checkpoint/checkpoint.pt").is_file()
    assert not (shared.folder / "data" / "checkpoints" / run.info.run_id).exists()
    assert shared.json(run, "environment/machine.json")["device"] == run.data.tags["device"]
    assert "\ntorch==" in shared.artifact(run, "environment/requirements.txt").read_text()


def test_the_model_needs_no_pickle(shared: Workplace, run: MlflowRun) -> None:
    names = {file.name for file in shared.model(run).rglob("*") if file.is_file()}
    assert {"MLmodel", "weights.safetensors", "items.parquet", "served.py"} <= names
    assert not any(name.endswith((".pkl", ".pickle", ".pt", ".pth")) for name in names)
    lines = (shared.model(run) / "requirements.txt").read_text().splitlines()
    assert all("==" in line and "+" not in line for line in lines)  # no index knows 2.9.0+cpu


def test_the_same_experiment_is_not_trained_twice(shared: Workplace, run: MlflowRun) -> None:
    again = shared.cli(*TRAIN)
    assert again.status == 0
    assert f"train small: reused run {run.info.run_id}" in again.told
    assert shared.run(step="train").info.run_id == run.info.run_id


def test_another_seed_other_data_or_no_reuse_are_trained(workplace: Workplace) -> None:
    quick = (*TRAIN, "--epochs", "1", "--validate=false")
    expected = 0
    for more in ((), ("--seed", "4"), ("--reuse=false",), ("--min_training=6",)):
        outcome = workplace.cli(*quick, *more)
        assert outcome.status == 0, outcome.told
        assert "reused" not in outcome.told
        expected += 1
    file = workplace.folder / "ratings.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert "reused" not in workplace.cli(*quick).told
    assert len(workplace.runs(step="train")) == expected + 1
    assert "reused" in workplace.cli(*quick).told


def test_the_same_seed_gives_the_same_bits(workplace: Workplace) -> None:
    quick = (*TRAIN, "--epochs", "2", "--reuse=false")
    assert workplace.cli(*quick).status == 0
    assert workplace.cli(*quick).status == 0
    one, other = workplace.runs(step="train")
    assert equal(workplace.weights(one), workplace.weights(other))
    assert untimed(one.data.metrics) == untimed(other.data.metrics)
    assert workplace.cli(*quick, "--seed=4").status == 0
    assert not equal(workplace.weights(one), workplace.weights(workplace.runs(step="train")[0]))


def test_without_validation_all_epochs_are_fitted(workplace: Workplace) -> None:
    outcome = workplace.cli(*TRAIN, "--validate", "false", "--epochs", "3")
    assert outcome.status == 0, outcome.told
    run = workplace.run(step="train")
    assert list(workplace.history(run, "train/loss")) == [1, 2, 3]
    assert not any(name.startswith("val/") for name in run.data.metrics)
    assert run.data.params["windows"] == "none"


def test_a_model_without_epochs_is_validated_too(workplace: Workplace) -> None:
    (workplace.folder / "popular.yaml").write_text("model: most_popular\nwindows: [0.7, 0.85]\n")
    outcome = workplace.cli("train", "--config", "popular.yaml", "--dataset", "ratings.csv")
    assert outcome.status == 0, outcome.told
    run = workplace.run(step="train")
    values = [run.data.metrics[f"val/{window}/ndcg_at_10"] for window in WINDOWS]
    assert run.data.metrics["val/ndcg_at_10"] == pytest.approx(sum(values) / 2)
    for window, value in zip(WINDOWS, values, strict=True):
        assert workplace.history(run, f"val/{window}/ndcg_at_10") == {0: value}
    assert run.data.metrics["val/popularity_overlap_at_10"] == 1.0
    assert "warning" not in run.data.tags  # it is not meant to be personal


def test_lists_of_several_lengths(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN, "--k=5,10", "--epochs=1").status == 0
    metrics = workplace.run(step="train").data.metrics
    assert {"val/ndcg_at_5", "val/ndcg_at_10", "val/window_0.7/map_at_5"} <= metrics.keys()


def test_nothing_after_the_cut_changes_training_or_validation(
    workplace: Workplace, ratings: pd.DataFrame
) -> None:
    def trained() -> MlflowRun:
        outcome = workplace.cli(*TRAIN)
        assert outcome.status == 0, outcome.told
        run = workplace.runs(step="train")[0]
        metrics = untimed(run.data.metrics)
        assert workplace.cli("evaluate", "--run_id", run.info.run_id).status == 0
        assert not any(name.startswith("test/") for name in metrics)
        return run

    cut = ratings["timestamp"].quantile(0.8, interpolation="nearest")
    changed, rng = ratings.copy(), np.random.default_rng(1)
    catalogue = ratings["item"].unique()
    for user, rows in ratings[ratings["timestamp"] > cut].groupby("user"):
        unseen = np.setdiff1d(catalogue, ratings["item"][ratings["user"] == user])
        changed.loc[rows.index, "item"] = rng.choice(unseen, len(rows), replace=False)
        changed.loc[rows.index, "rating"] = 1.0
    one = trained()
    changed.to_csv(workplace.folder / "ratings.csv", index=False)
    other = trained()
    assert one.info.run_id != other.info.run_id
    assert one.data.tags["dataset_fingerprint"] != other.data.tags["dataset_fingerprint"]
    assert equal(workplace.weights(one), workplace.weights(other))
    assert untimed(one.data.metrics) == untimed(other.data.metrics)
    histories = [workplace.history(run, "val/window_0.85/ndcg_at_10") for run in (one, other)]
    assert histories[0] == histories[1]
    tests = [
        workplace.client.get_run(run.info.run_id).data.metrics["test/ndcg_at_10"]
        for run in (one, other)
    ]
    assert tests[0] != tests[1]


def test_a_model_that_learned_nothing_personal_says_so(workplace: Workplace) -> None:
    outcome = workplace.cli(*TRAIN, *COLLAPSING)
    assert outcome.status == 0, outcome.told
    run = workplace.run(step="train")
    assert run.data.tags["warning"].startswith("collapsed-to-popularity, collapsed-parameters")
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**Warning:** This model has learned nothing personal: ")
    assert "Look for weight_decay (now 0.01)" in note
    assert not any("over_popular" in name for name in run.data.metrics)  # sums, no metrics
    assert "learned nothing personal" in outcome.told
    assert workplace.cli("evaluate", "--run_id", run.info.run_id).status == 0
    described = workplace.run(step="train").data.tags["mlflow.note.content"]
    assert described.startswith("**Warning:**")


def test_collapsed_embeddings_are_enough_for_the_warning(workplace: Workplace) -> None:
    assert workplace.cli(*TRAIN, *COLLAPSING, "--validate=false").status == 0
    run = workplace.run(step="train")
    assert run.data.tags["warning"] == "collapsed-parameters"
    assert (
        "Its parameters have collapsed: the median norm of the GMF user embeddings"
        in run.data.tags["mlflow.note.content"]
    )


def test_what_there_is_no_memory_for_is_refused_before_there_is_a_run(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.costs.available_memory", lambda: 2.0**10)
    outcome = workplace.cli("train", "--model", "ease", "--dataset", "ratings.csv")
    assert outcome.status == 1
    assert "EASE of " in outcome.told
    assert "of memory are left here. Take als, svd or two_tower" in outcome.told
    assert not workplace.runs(step="train")


def test_divergence_in_the_first_epoch_fails_with_a_message(workplace: Workplace) -> None:
    outcome = workplace.cli(*TRAIN, "--learning_rate=1e30", "--loss=bce")
    assert outcome.status == 1
    assert "error: The loss became" in outcome.told
    assert "in epoch 1. Lower learning_rate (now 1e+30)" in outcome.told
    run = workplace.run(step="train")
    assert run.info.status == "FAILED"
    assert run.data.tags["ended"].startswith("DivergedError: The loss became")


def test_divergence_keeps_the_last_good_checkpoint(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, bpr = itertools.count(), LOSSES["bpr"]

    def turning_bad(*scores: torch.Tensor) -> torch.Tensor:
        return bpr(*scores) + (0.0 if next(steps) < 50 else torch.inf)

    monkeypatch.setitem(LOSSES, "bpr", turning_bad)  # after 2 epochs of 22 steps
    outcome = workplace.cli(*TRAIN, "--validate=false")
    assert outcome.status == 1
    assert "The loss became" in outcome.told
    assert "in epoch 3" in outcome.told
    run = workplace.run(step="train")
    assert run.info.status == "FAILED"
    assert list(workplace.history(run, "train/loss")) == [1, 2]
    kept = Journal.load(workplace.artifact(run, "checkpoint/checkpoint.pt"))
    state = kept.state("final")
    assert state is not None
    assert len(kept.records["final"]) == state["epochs_done"] == 2
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


@pytest.mark.parametrize("more", [(), ("--validate=false",)], ids=["window", "final fit"])
def test_a_last_step_that_diverges_fails_too(workplace: Workplace, more: tuple[str, ...]) -> None:
    # One step per epoch: its loss is taken before the step, so it is still finite.
    wild = ("--learning_rate=1e30", "--loss=bce", "--batch_size=100000", "--epochs=1")
    outcome = workplace.cli(*TRAIN, *wild, *more)
    assert outcome.status == 1
    assert "learning_rate" in outcome.told
    run = workplace.run(step="train")
    assert run.info.status == "FAILED"
    assert not workplace.artifact(run, "checkpoint").exists()
