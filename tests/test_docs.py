"""The pages for users: each command that they show is run, in their order, in one folder.

What stands in a block ``sh`` is run as it stands; RUN_ID is the id of a run of train. A server is
left running until the end, at a free port. The notebook is run, too; `make docs` makes the site.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import click
import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from pipeline.cli import cli
from pipeline.commands.flags import FieldsCommand
from pipeline.evaluation.metrics import BUILT_IN
from pipeline.models import FAMILIES
from pipeline.tuning.suite import SuiteSettings
from tests.steps.test_import_ledger import TEXT as LEDGER
from tests.steps.workplace import (
    DEADLINE,
    ROOT,
    Workplace,
    answers,
    environment,
    free_port,
    make_workplace,
    run_told,
    wait_until,
)

DOCS = ROOT / "docs"
PAGES = (
    "tutorial", "own-data", "migrating", "own-study", "comparing", "serving", "resuming",
    "offline", "workers", "ledger",
)  # fmt: skip
COMMANDS = {
    name: "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    for name in PAGES
    for text in [(DOCS / f"{name}.md").read_text()]
}
# A command with its flags, in a block or in a line; what stands before -e belongs to mlflow run.
MENTIONED = re.compile(
    r"(?:`|^|\n|\| )(?:ncf|python -m pipeline|mlflow run [^`\n]*-e) ([a-z_]+)([^`\n#|]*)"
)


@dataclass
class Reader:
    """Somebody who types what a page says, in one folder for all pages."""

    place: Workplace
    port: str = field(default_factory=lambda: str(free_port("127.0.0.1")))
    """Of the served model, in the place of 5001."""
    servers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def types(self, line: str) -> str:
        """Do what ``line`` says; what it told."""
        line = line.replace("5001", self.port)
        program, *words = shlex.split(line)
        if line == "ncf ui":
            port = str(free_port("127.0.0.1"))
            self.serve("pipeline", "ui", "--port", port, port=port)
        elif program == "mlflow":
            self.serve("mlflow", *words, port=self.port)
        elif program == "ncf":
            done = self.place.cli(*words)
            assert done.status == 0, f"{line}\n{done.told}"
        else:
            shell = subprocess.run(
                ["bash", "-c", line],
                cwd=self.place.folder,
                env=environment(),
                capture_output=True,
                text=True,
            )
            assert shell.returncode == 0, f"{line}\n{shell.stderr}"
            return shell.stdout
        return ""

    def meant(self, line: str, page: str) -> Iterator[str]:
        """``line`` with the run that is meant by RUN_ID: the latest, in the tutorial each."""
        if "RUN_ID" not in line:
            yield line
            return
        found = [run.info.run_id for run in self.place.runs(step="train")]
        for run_id in found if page == "tutorial" else found[:1]:
            yield line.replace("RUN_ID", run_id)

    def serve(self, *command: str, port: str) -> None:
        """Start a server that does not run yet, and wait for its answer."""
        if command[0] in self.servers:
            return
        with (self.place.folder / f"{command[0]}.log").open("w") as told:
            # The store of a folder is the default for a person, too.
            uri = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"} if command[0] == "mlflow" else {}
            process = self.place.start(*command, told=told, **uri)
        self.servers[command[0]] = process
        wait_until(lambda: answers(f"http://127.0.0.1:{port}"), process)

    def leave(self) -> None:
        """End the servers."""
        for process in self.servers.values():
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=DEADLINE)


@pytest.fixture(scope="module")
def reader(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Iterator[Reader]:
    """With ratings.csv, a ledger, and the files that pages give."""
    place = make_workplace(tmp_path_factory.mktemp("reader"), ratings, store)
    (place.folder / "ledger.csv").write_text(LEDGER)
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text()
        for name, content in re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL):
            (place.folder / name).write_text(content)
    reader = Reader(place)
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works(reader: Reader, page: str) -> None:
    if page == "resuming":
        kill_a_run(reader.place)
    assert COMMANDS[page]
    for line in chain.from_iterable(reader.meant(each, page) for each in COMMANDS[page]):
        told = reader.types(line)
        if line.startswith("curl"):
            assert '"rank": 1' in told
            assert '"folded in"' in told


def kill_a_run(place: Workplace) -> None:
    """A run of train whose process is gone after an epoch."""
    words = ("--config=small.yaml", "--dataset=ratings.csv", "--epochs=100", "--windows=none")
    process = place.start("pipeline", "train", *words)
    checkpoint = place.folder / "data" / "checkpoints" / run_told(process) / "checkpoint.pt"
    wait_until(checkpoint.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_champion_and_its_lists_are_there(reader: Reader) -> None:
    version = reader.place.client.get_model_version_by_alias("films", "champion")
    assert version.run_id
    lists = pd.read_csv(reader.place.folder / "lists.csv")
    assert lists["user"].nunique() > 100


def test_the_ten_lines_of_the_readme_work(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    with reader.place.entered():
        exec(lines.replace('"ml-1m"', '"ratings.csv"'), {})
    assert "differs from the baseline, most_popular" in capsys.readouterr().out


def test_links_between_files_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:\s]+)[)#]", page.read_text()):
            made = link.startswith("reference/")
            assert made or (page.parent / link).exists(), f"{page.name}: {link}"


def test_commands_and_flags_that_are_only_mentioned_exist() -> None:
    wrong = []
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]:
        if page.name == "newcomer.md":  # a recording: what it shows was run
            continue
        for name, rest in MENTIONED.findall(page.read_text()):
            command = cli.commands.get(name)
            known = known_flags(command) if command else set()
            flags = re.findall(r"(?:--|-P )([a-z_]+)\b(?!-)", rest)
            wrong += [f"{page.name}: {name} --{flag}" for flag in flags if flag not in known]
            if command is None:
                wrong.append(f"{page.name}: {name}")
    assert wrong == []


def known_flags(command: click.Command) -> set[str]:
    """The options of a command, and the fields of every model where it takes fields."""
    names = (name for option in command.params for name in option.opts)
    options = {name.removeprefix("--") for name in names} | {"help"}
    if command.name == "tune":
        options |= set(SuiteSettings.given())
    if isinstance(command, FieldsCommand):
        for model in (None, *FAMILIES):
            for group in command.fields(model).values():
                options |= set(group.given())
    return options


def test_the_reference_has_every_command_field_and_metric(tmp_path: Path) -> None:
    """``make docs`` makes pages of it, and says of each whether it is reached."""
    runpy.run_path(str(DOCS / "reference.py"))["write"](tmp_path)
    commands, fields, metrics = (
        (tmp_path / f"{name}.md").read_text() for name in ("commands", "fields", "metrics")
    )
    assert all(f"\n## {name}\n" in commands for name in cli.commands)
    known = known_flags(cli.commands["train"])
    options = {option.name for option in cli.commands["train"].params} | {"help"}
    assert all(f"| `{name}` |" in fields for name in known - options)
    assert all(f"\n## {metric.name}\n" in metrics for metric in BUILT_IN)
    assert "|L_u ∩ R_u| / k" in metrics.replace("\\", "")


def test_the_notebook_runs_and_has_its_outputs(tmp_path: Path) -> None:
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    kept = [bool(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, timeout=120)
    done = client.execute()
    outputs = [
        [each for each in cell.outputs if each.get("name") != "stderr"]
        for cell in done.cells
        if cell.cell_type == "code"
    ]
    assert kept == [bool(each) for each in outputs]
    assert "differs from the baseline, most_popular" in outputs[-2][0]["data"]["text/markdown"]
