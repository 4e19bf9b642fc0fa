"""The command line: quick help, flags as ``mlflow run`` passes them, mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.cli import cli
from tests.steps.conftest import store
from tests.steps.workplace import ROOT, Workplace, environment, make_workplace

__all__ = ["store"]

# What a command has imported when it ends.
IMPORTS = """
import json, sys
from pipeline.cli import run
sys.argv = ["pipeline", *sys.argv[1:]]
try:
    run()
finally:
    print(json.dumps([name for name in ("torch", "mlflow", "pandas") if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("cli"), ratings, store)


def helped(*words: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told, _, imported = done.stdout.rstrip().rpartition("\n")
    return told, json.loads(imported)


def test_help_is_quick_and_names_every_entry_point() -> None:
    told, imported = helped("--help")
    assert imported == []
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert entry_points.keys() <= cli.commands.keys()
    for name in cli.commands:
        assert f"\n  {name} " in told


def test_help_of_evaluate_is_quick() -> None:
    told, imported = helped("evaluate", "--help")
    assert imported == []
    assert "--run_id" in told
    assert "models:/NAME@ALIAS" in told


def test_help_of_train_lists_every_field() -> None:
    told, imported = helped("train", "--help")
    assert "mlflow" not in imported
    for title in ("Experiment fields", "Split fields", "Model ncf fields"):
        assert title in told
    for flag in ("--config", "--resume", "--validate", "--seed", "--test_cut", "--embedding_dim"):
        assert flag in told
    assert "Entries of a GMF row. [default: 8]" in " ".join(told.split())
    for missing in ("--params", "--split ", "--name"):
        assert missing not in told


@pytest.mark.parametrize(
    "words",
    [
        ("--k=5,10", "--epochs=1", "--validate=false", "--seed=11"),
        ("--k", "5,10", "--epochs", "1", "--validate", "false", "--seed", "12"),
        ("--k", "[5, 10]", "--epochs", "1", "--validate", "False", "--seed", "13"),
    ],
)
def test_flags_in_every_form(here: Workplace, words: tuple[str, ...]) -> None:
    outcome = here.cli("train", "--config", "small.yaml", "--dataset=ratings.csv", *words)
    assert outcome.status == 0, outcome.told
    params = here.runs(step="train")[0].data.params
    assert params["k"] == "[5, 10]"
    assert params["epochs"] == "1"
    assert params["windows"] == "[]"


def test_reuse_in_every_form(here: Workplace) -> None:
    words = ("prepare", "--dataset", "ratings.csv")
    assert here.cli(*words).status == 0
    for more in ((), ("--reuse", "true"), ("--reuse=True",)):
        assert "prepare: reused run" in here.cli(*words, *more).told
    for more in (("--reuse", "false"), ("--reuse=false",)):
        assert "reused" not in here.cli(*words, *more).told


TRAIN = ("train", "--config", "small.yaml", "--dataset", "ratings.csv")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("trian",), 2, "No such command 'trian'"),
        (("train",), 1, "Give --config FILE (as in experiments/ncf.yaml), or --resume RUN_ID"),
        (("train", "--config", "smal.yaml"), 1, "smal.yaml: there is no such file"),
        (("train", "--config", "ratings.csv"), 1, "ratings.csv: "),
        ((*TRAIN, "--droput", "0.1"), 1, "unknown field 'droput' (did you mean 'dropout'?)"),
        ((*TRAIN, "--dropout", "much"), 1, "dropout='much'"),
        ((*TRAIN, "--dropout=1.5"), 1, "dropout='1.5'"),
        ((*TRAIN, "--layers=7,3"), 1, "expected an even input width"),
        ((*TRAIN, "--model=nfc"), 1, "did you mean 'ncf'?"),
        ((*TRAIN, "--epochs"), 1, "'--epochs': expected flags with values"),
        ((*TRAIN, "16"), 1, "'16': expected flags with values, as in --embedding_dim 16"),
        ((*TRAIN, "--reuse", "maybe"), 2, "'maybe' is not a valid boolean"),
        ((*TRAIN, "--on_bad_rows=ignore"), 2, "'ignore' is not one of 'error', 'drop'"),
        ((*TRAIN[:3], "--dataset", "rating.csv"), 1, "Did you mean ratings.csv?"),
        (("prepare", "--dataset", "ml-1n"), 1, "Did you mean ml-1m"),
        (("prepare", "--dataset", "ratings.csv", "--test_cut=1"), 1, "test_cut='1'"),
        (("prepare", "--dataset", "ratings.csv", "--epochs=1"), 1, "unknown field 'epochs'"),
        (("prepare", "--dataset", "small.yaml"), 1, "small.yaml: unknown kind of file"),
        (("evaluate", "--runid", "0123"), 2, "No such option '--runid'"),
        (("main", "--dataset", "ratings.csv"), 1, "experiments/suites/ledger.yaml"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_mistakes_are_told_without_a_traceback(
    here: Workplace, words: tuple[str, ...], status: int, told: str
) -> None:
    before = len(here.runs())
    outcome = here.cli(*words)
    assert outcome.status == status, outcome.told
    assert told in outcome.told
    assert "Traceback" not in outcome.told
    assert len(here.runs()) == before
