"""The command line: quick help, flags as ``mlflow run`` passes them, mistakes in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import SHORT, cli
from pipeline.commands.flags import experiment_fields
from pipeline.commands.help import write_fields
from pipeline.models import FAMILIES, family
from tests.steps.workplace import ROOT, Workplace, environment, make_workplace

IMPORT_RUN = "from pipeline.cli import run"
# What is said at the end of a command, and what every step does, whatever it fits.
LIGHT = """
import sys
from pipeline.steps import ending
assert "matplotlib" not in sys.modules
from pipeline.code import code_of
from pipeline.steps import backtest, compare, evaluate, import_ledger, main, migrate, prepare
from pipeline.steps import recommend, sync, train, tune
assert "pipeline.training.memory" in code_of(["pipeline.evaluation.evaluate"])
assert "torch" not in sys.modules
"""
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


def test_only_what_fits_waits_for_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, env=environment(), check=True)


def test_help_is_quick_and_names_every_entry_point() -> None:
    told, imported = helped("--help")
    assert imported == []
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert entry_points.keys() <= cli.commands.keys()
    for name in cli.commands:
        assert f"\n  {name} " in told


def test_a_python_without_the_packages_is_told_how_to_have_them() -> None:
    done = subprocess.run(  # -S leaves out what is installed
        [sys.executable, "-S", "-m", "pipeline", "train"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "make .venv/installed" in line
    assert "source .venv/bin/activate" in line


def test_help_of_evaluate_is_quick() -> None:
    told, imported = helped("evaluate", "--help")
    assert imported == []
    assert "--run_id" in told
    assert "models:/NAME@ALIAS" in told


def test_help_of_train_lists_the_models() -> None:
    told, imported = helped("train", "--help")
    assert "mlflow" not in imported
    for title in ("Experiment fields", "Split fields", "Models"):
        assert f"{title}:" in told
    for name in FAMILIES:
        assert f"\n  {name} " in told
    assert "--embedding_dim " not in told.partition("Experiment fields")[2]
    for missing in ("--params", "--split ", "--name"):
        assert missing not in told


def test_help_of_tune_has_the_fields_of_studies_and_of_suites() -> None:
    told = " ".join(CliRunner().invoke(cli, ["tune", "--help"]).output.split())
    assert "--n_trials Trials of the whole study" in told
    assert "--minutes_each Of trials, for each study" in told
    assert "A study has 0.4, 0.55, 0.7 and 0.85 unless they are given" in told


def test_help_of_a_model_lists_its_fields_alone() -> None:
    told, imported = helped("train", "--model", "ncf", "--help")
    assert "mlflow" not in imported
    assert "Models:" not in told
    for flag in ("--config", "--resume", "--validate", "--seed", "--test_cut", "--embedding_dim"):
        assert flag in told
    plain = " ".join(told.split())
    assert "Entries of a GMF row. [a whole number >= 1; default: 8]" in plain
    assert "where there is one. [auto, cpu or cuda; default: auto]" in plain
    assert "[a number >= 0 and < 1; default: 0]" in plain
    assert "--components" not in told


@pytest.mark.parametrize("model", FAMILIES)
def test_every_field_of_every_model_is_explained(model: str) -> None:
    formatter = click.HelpFormatter(width=100)
    write_fields(formatter, experiment_fields(model))
    lines = re.findall(r"^ +--(\w+) +(.)", formatter.getvalue(), re.MULTILINE)
    assert {name for name, _ in lines} >= set(family(model).settings_class.given())
    assert [name for name, first in lines if first == "["] == []  # no word before what it takes


def test_ncf_is_the_same_command_and_completes() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {SHORT: "pipeline.cli:run"}
    asked = {"COMP_WORDS": "ncf train --model svd --comp", "COMP_CWORD": "4"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['{SHORT}']; {IMPORT_RUN}; run()"],
        cwd=ROOT,
        env={**environment(), **asked, "_NCF_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["plain,--components"], done.stderr


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
    assert params["k"] == "5,10"
    assert params["epochs"] == "1"
    assert params["windows"] == "none"


def test_a_model_needs_no_file(here: Workplace) -> None:
    data = ("--dataset", "ratings.csv", "--validate", "false")
    assert here.cli("train", "--model", "svd", "--components", "3", *data).status == 0
    params = here.run(step="train", experiment="svd").data.params
    assert (params["model"], params["components"], params["iterations"]) == ("svd", "3", "42")


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
        (("train",), 1, "Give --config FILE (as in experiments/ncf.yaml), --model NAME"),
        (("train", "--config", "smal.yaml"), 1, "smal.yaml: there is no such file"),
        (("train", "--config", "ratings.csv"), 1, "ratings.csv: "),
        ((*TRAIN, "--droput", "0.1"), 1, "unknown field 'droput' (did you mean 'dropout'?)"),
        ((*TRAIN, "--dropout", "much"), 1, "dropout='much'"),
        ((*TRAIN, "--dropout=1.5"), 1, "dropout='1.5'"),
        ((*TRAIN, "--layers=7,3"), 1, "expected an even input width"),
        ((*TRAIN, "--model=nfc"), 1, "did you mean 'ncf'?"),
        (("train", "--model=nfc", "--help"), 1, "did you mean 'ncf'?"),
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
        (("main", "--suite", "legder"), 1, "experiments/suites/legder.yaml: there is no such"),
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
