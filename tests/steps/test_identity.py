"""A finished step is taken again as long as the code that made its result is what it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.code import code_of

ROOT = Path(__file__).parents[2]
ASK = """
import json
from pathlib import Path
from pipeline.config import read_experiment
from pipeline.evaluation.evaluate import FullRanking
from pipeline.evaluation.validation import validate
from pipeline.steps.identity import step_key
named = {"ncf": {}, "beside": {"wide": "svd"}, "svd": {}}
made = {
    name: read_experiment(Path("experiments") / f"{'svd' if name == 'svd' else 'ncf'}.yaml", given)
    for name, given in named.items()
}
keys = {
    f"{step} {name}": step_key(step, {}, [maker, *experiment.recommender().made_by])
    for name, experiment in made.items()
    for step, maker in (("train", validate), ("evaluate", FullRanking))
}
print(json.dumps(keys))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("pipeline", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def before(copy: Path) -> dict[str, str]:
    return keys(copy)


def keys(copy: Path) -> dict[str, str]:
    told = subprocess.run(
        [sys.executable, "-c", ASK], cwd=copy, capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(told.stdout)
    return found


def changed(copy: Path, before: dict[str, str], line: str, *files: str) -> set[str]:
    """The steps whose keys change when files get one more line."""
    texts = {copy / "pipeline" / file: (copy / "pipeline" / file).read_text() for file in files}
    try:
        for path, text in texts.items():
            path.write_text(f"{text}{line}\n")
        after = keys(copy)
    finally:
        for path, text in texts.items():
            path.write_text(text)
    return {step for step in before if before[step] != after[step]}


def test_a_comment_in_what_only_shows_redoes_nothing(copy: Path, before: dict[str, str]) -> None:
    shows = "compare/figures.py", "compare/tables.py", "ledger/reading.py"
    assert changed(copy, before, "# seen better", *shows) == set()


def test_a_line_of_the_sampler_trains_the_networks_anew_and_nothing_else(
    copy: Path, before: dict[str, str]
) -> None:
    redone = changed(copy, before, "SEED = 1", "training/sampling.py")
    assert redone == {
        f"{step} {name}" for step in ("train", "evaluate") for name in ("ncf", "beside")
    }


def test_a_network_beside_a_linear_model_is_made_by_both(
    copy: Path, before: dict[str, str]
) -> None:
    redone = changed(copy, before, "SEED = 1", "models/factors.py")
    assert redone == {
        f"{step} {name}" for step in ("train", "evaluate") for name in ("svd", "beside")
    }


def test_what_tracks_and_what_is_imported_for_annotations_alone_makes_no_result() -> None:
    found = code_of(["pipeline.steps.fitting", "pipeline.models.factors"])
    assert "pipeline.models.linear" in found
    assert not [name for name in found if "tracking" in name or name == "pipeline.training.trainer"]
