"""What an extra brings is asked for in a sentence, by whatever way one comes to need it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.steps.workplace import Workplace, environment

# A module that is None cannot be imported, as one that is not installed.
WITHOUT = """
import sys
sys.modules.update(psycopg=None, flask_wtf=None, ray=None)
from pipeline.cli import run
run()
"""
URL = "postgresql://ada:s3cret@127.0.0.1:1/runs"
TUNE = ("tune", "--config=small.yaml", "--dataset=ratings.csv")
TOLD = "needs {}: pip install 'ncf-pipeline[{}]'\n"


@pytest.mark.parametrize(
    ("words", "variables", "what", "module"),
    [
        (("server",), {}, "A server with users", "flask_wtf"),
        (("backup",), {"DATABASE_URL": URL}, "PostgreSQL", "psycopg"),
        (TUNE, {"OPTUNA_STORAGE": URL}, "PostgreSQL", "psycopg"),
        (
            ("compare",), {"MLFLOW_TRACKING_URI": URL}, "MLFLOW_TRACKING_URI on PostgreSQL",
            "psycopg",
        ),
        ((*TUNE, "--launcher=ray"), {}, "--launcher ray", "ray"),
    ],
)  # fmt: skip
def test_a_missing_extra_is_one_sentence(
    workplace: Workplace, words: tuple[str, ...], variables: dict[str, str], what: str, module: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        cwd=workplace.folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
    )
    extra = "ray" if module == "ray" else "server"
    assert done.returncode == 1
    assert done.stderr.endswith(f"error: {what} {TOLD.format(module, extra)}"), done.stderr
