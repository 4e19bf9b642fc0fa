"""The project's own files agree with each other."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from pipeline import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): pinned for name, pinned in pairs}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return content


def test_every_range_of_pyproject_holds_its_pin(
    project: dict[str, Any], pins: dict[str, str]
) -> None:
    extras = {name: each for name, each in project["optional-dependencies"].items() if name != "ui"}
    for requirement in map(Requirement, chain(project["dependencies"], *extras.values())):
        if requirement.name == project["name"]:  # an extra that has another in it
            continue
        pinned = pins[requirement.name.lower()]
        assert requirement.specifier.contains(pinned), f"{requirement} but {pinned} is pinned"


def test_conda_yaml_has_the_dependencies_of_pyproject_at_their_pins(
    project: dict[str, Any], pins: dict[str, str]
) -> None:
    """And those of servers: a worker that ``mlflow run`` starts joins studies on PostgreSQL."""
    dependencies = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    (from_pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    wanted = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    names = [Requirement(text).name for text in wanted]
    assert sorted(from_pip) == sorted(f"{name}=={pins[name.lower()]}" for name in names)
    (python,) = (entry for entry in dependencies if str(entry).startswith("python="))
    assert Requirement(f"python{project['requires-python']}").specifier.contains(
        python.removeprefix("python=")
    )


def test_the_tests_run_on_the_tested_versions(
    project: dict[str, Any], pins: dict[str, str]
) -> None:
    for requirement in map(Requirement, project["dependencies"]):
        installed = version(requirement.name).partition("+")[0]
        assert installed == pins[requirement.name.lower()], requirement.name


MADE_BY = """
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

from pipeline.steps.report import made_by

try:
    print(version("ncf-pipeline"), "is installed")
except PackageNotFoundError:
    print(made_by(SimpleNamespace(id="1f", tags={"step": "tune"})))
"""


def test_a_report_is_made_where_the_project_is_not_installed(tmp_path: Path) -> None:
    """As in an environment that `mlflow run` makes of conda.yaml, which has its dependencies."""
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        if "ncf_pipeline" not in each.name:
            (tmp_path / each.name).symlink_to(each)
    found = subprocess.run(
        [sys.executable, "-S", "-c", MADE_BY],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(f"Made by ncf-pipeline {__version__}, tune, on ")


def test_what_is_installed_has_the_version_of_the_code() -> None:
    assert version("ncf-pipeline") == __version__


def test_mlproject_commands_are_nothing_but_python_m_pipeline() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    for name, entry in project["entry_points"].items():
        flags = "".join(f" --{flag} {{{flag}}}" for flag in entry["parameters"])
        assert entry["command"] == f"python -m pipeline {name}{flags}"
