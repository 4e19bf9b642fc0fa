"""The wheel has all that it needs: it is built, installed and used where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tests.steps.workplace import ROOT, environment

NAMES = """
from pathlib import Path
import pipeline
from pipeline.config import read_suite
from pipeline.fields import find_file
assert Path(pipeline.__file__).is_relative_to({prefix!r}), pipeline.__file__
assert find_file("experiments/studies/everything.yaml").is_file()
print(*(experiment.name for experiment in read_suite("ledger", {{}})))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, which sees what is installed beside us."""
    prefix = tmp_path_factory.mktemp("environment")
    venv.create(prefix, with_pip=False)
    python = prefix / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (packages,) = prefix.glob("lib/*/site-packages")
    # A path in such a file is searched, the files like it in there are not: not the checkout's.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return prefix


def ran(prefix: Path, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [str(prefix / "bin" / words[0]), *words[1:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_it_has_every_module_and_experiment(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(file.relative_to(ROOT)) for file in ROOT.glob("pipeline/**/*.py")}
    brought = {f"pipeline/{file.relative_to(ROOT)}" for file in ROOT.glob("experiments/**/*.yaml")}
    assert len(modules) > 100
    assert len(brought) > 20
    assert modules | brought | {"pipeline/py.typed"} <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/")) for name in names)


def test_its_commands_work_in_any_folder(
    installed: Path, tmp_path: Path, ratings: pd.DataFrame
) -> None:
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    told = ran(
        installed, tmp_path,
        *("ncf", "train", "--config", "experiments/ease.yaml", "--dataset", "ratings.csv"),
    )  # fmt: skip
    assert "train ease: run " in told
    names = NAMES.format(prefix=str(installed))
    assert "ncf_bce_100" in ran(installed, tmp_path, "python", "-c", names).split()
