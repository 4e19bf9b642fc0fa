"""import_ledger: what the runs hold, that each is made once, and what is told."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.errors import UserError
from pipeline.ledger.reading import LEDGER
from pipeline.steps.import_ledger import import_ledger
from pipeline.tracking.dead import PROCESS
from pipeline.tracking.runs import Run
from tests.steps.workplace import Workplace

TEXT = """\
model_name,hit_rate@10,precision@10,recall@10,ndcg@10,map@10,coverage@10,timestamp,evaluation_date
Most_Popular,0.7142857142857143,0.2,0.1,0.25,0.15,0.25,20240101_000001,"2024-01-01T00:00:01.250000,,,,"
slim_alpha_0.47_l1_ratio_0.14,0.857143,0.3,0.1,0.3,0.15,0.325000,20240102_030405,
NCF_BCE,0.857143,0.342857,0.1,0.31,0.16,0.330000,20240103_000000,2024-01-03T00:00:00
broken,0.857143,0.3
ease_lambda=7,1.000000,0.300000,0.1,high,0.15,0.325000,20240104_000000,2024-01-04T00:00:00
"""


@dataclass(frozen=True)
class Told:
    counts: dict[str, int]
    lines: list[str]


@dataclass(frozen=True)
class Importer:
    """Calls the step in a workplace and gives back what it told."""

    place: Workplace
    capsys: pytest.CaptureFixture[str]
    caplog: pytest.LogCaptureFixture

    @property
    def ledger(self) -> Path:
        return self.place.folder / "ledger.csv"

    def __call__(self, *paths: Path, n_items: int | None = 40, n_users: int | None = 7) -> Told:
        self.caplog.clear()
        self.capsys.readouterr()
        with self.place.entered():
            import_ledger(paths or [self.ledger], "made", "time", n_items, n_users)
        return Told(self.counts(), list(self.caplog.messages))

    def counts(self) -> dict[str, int]:
        """The table in the terminal, without its zeros."""
        told = self.capsys.readouterr().err
        rows = re.findall(r"^([a-z ]+?) +(\d+)$", told, re.MULTILINE)
        assert len(rows) == 6
        return {name: int(number) for name, number in rows if number != "0"}

    def state(self) -> list[dict[str, Any]]:
        """Everything that the store has of all runs, but for the process that wrote them."""
        found = [run.to_dictionary() for run in self.place.client.search_runs(["0"])]
        for run in found:
            assert run["data"]["tags"].pop(PROCESS)
        return found

    def run(self, name: str) -> MlflowRun:
        (found,) = self.place.client.search_runs(["0"], f"attributes.run_name = '{name}'")
        return found


@pytest.fixture
def importer(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Importer:
    """One with ``TEXT`` as ledger.csv and an empty store."""
    made = Importer(workplace, capsys, caplog)
    made.ledger.write_text(TEXT)
    return made


def milliseconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc]


def test_a_row_becomes_a_run(importer: Importer) -> None:
    importer()
    run = importer.run("slim_alpha_0.47_l1_ratio_0.14")
    assert run.data.metrics == {
        "test/hit_rate_at_10": 0.857143,
        "test/precision_at_10": 0.3,
        "test/recall_at_10": 0.1,
        "test/ndcg_at_10": 0.3,
        "test/map_at_10": 0.15,
        "test/coverage_at_10": 0.325,
    }
    assert run.data.params == {"alpha": "0.47", "l1_ratio": "0.14"}
    wanted = {
        "source": "ledger-csv",
        "step": "import_ledger",
        "model": "slim",
        "experiment": "slim",
        "dataset": "made",
        "dataset_fingerprint": "unknown",
        "split": "time",
        "mask": "seen",
        "mlflow.source.name": f"{importer.ledger}, line 3",
    }
    assert {name: run.data.tags.get(name) for name in wanted} == wanted
    assert not {"warning", "warning_note", "audit"} & run.data.tags.keys()
    assert run.info.status == "FINISHED"
    assert run.info.start_time == run.info.end_time == milliseconds(2024, 1, 2, 3, 4, 5)
    header, _, line, *_ = TEXT.splitlines(keepends=True)
    kept = importer.place.artifact(run, "ledger/row.csv").read_bytes()
    assert kept == (header + line).encode()
    note = run.data.tags["mlflow.note.content"]
    assert "| ndcg_at_10 | 0.3 |" in note
    assert "Repaired: evaluation_date is empty" in note
    assert "Warning" not in note


def test_the_unmasked_popularity_list_is_named_so(importer: Importer) -> None:
    importer()
    run = importer.run("Most_Popular")
    told = ("model", "experiment", "mask")
    assert [run.data.tags[name] for name in told] == [*["most_popular_unmasked"] * 2, "none"]
    assert run.info.start_time == milliseconds(2024, 1, 1, 0, 0, 1, 250_000)


def test_what_cannot_be_true_is_flagged(importer: Importer) -> None:
    told = importer()
    tags = importer.run("NCF_BCE").data.tags
    sum_ = "coverage_at_10 0.330000 x 40 items = 13.20"
    assert (tags["warning"], tags["audit"]) == ("impossible-coverage", "impossible")
    assert tags["warning_note"].startswith(sum_)
    assert tags["mlflow.note.content"].startswith(f"**Warning:** this cannot be true: {sum_}")
    assert any(line.startswith("Flagged: ") and sum_ in line for line in told.lines)
    assert len(importer.place.runs(audit="impossible")) == 1


def test_everything_is_told(importer: Importer) -> None:
    told = importer()
    assert told.counts == {"imported": 3, "repaired": 2, "flagged": 1, "left out": 2}
    for start in (
        "Left out: {}, line 5: 3 fields where the header has 9",
        "Left out: {}, line 6: ndcg@10 is 'high'",
        "Repaired: {}, line 2: evaluation_date '2024-01-01T00:00:01.250000,,,,' read as",
        "Repaired: {}, line 3: evaluation_date is empty",
    ):
        assert any(line.startswith(start.format(importer.ledger)) for line in told.lines), start
    assert importer.ledger.read_text() == TEXT


def test_twice_the_same_file_changes_nothing(importer: Importer) -> None:
    importer()
    before = importer.state()
    assert len(before) == 3
    told = importer()
    assert told.counts == {"already there": 3, "repaired": 2, "flagged": 1, "left out": 2}
    assert importer.state() == before


@pytest.mark.parametrize("ending", [KeyboardInterrupt, OSError, None])
def test_an_interrupted_import_is_completed(
    importer: Importer, ending: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import ends, or its process dies, before the second run has its artifact."""
    calls = []

    def log_file(run: Run, path: Path, folder: str | None = None) -> None:
        calls.append(run.id)
        if len(calls) == 2:
            raise (ending or SystemExit)("enough")
        original(run, path, folder)

    original = Run.log_file
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log_file", log_file)
        with pytest.raises(ending or SystemExit):
            importer()
    client = importer.place.client
    status = {KeyboardInterrupt: "KILLED", OSError: "FAILED", None: "KILLED"}[ending]
    assert client.get_run(calls[1]).info.status == status
    if ending is None:
        client.update_run(calls[1], "RUNNING")
    assert len(importer.state()) == 2
    told = importer()
    assert told.counts["imported"] == 2
    assert told.counts["already there"] == 1
    runs = importer.place.runs(source="ledger-csv")
    assert len(runs) == 3
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.info.start_time == run.info.end_time
        assert importer.place.artifact(run, "ledger/row.csv").is_file()
        assert len(importer.place.history(run, "test/ndcg_at_10")) == 1
    assert importer().counts["already there"] == 3


def test_a_process_that_died_at_once_left_a_run_to_fill(importer: Importer) -> None:
    tags = {"source": "ledger-csv", "ledger_row": "NCF_BCE 20240103_000000"}
    begun = importer.place.client.create_run(
        "0", milliseconds(2024, 1, 3), tags=tags, run_name="NCF_BCE"
    )
    assert importer().counts["imported"] == 3
    run = importer.run("NCF_BCE")
    assert run.info.run_id == begun.info.run_id
    assert (run.info.status, len(run.data.metrics)) == ("FINISHED", 6)
    assert run.data.tags["warning"] == "impossible-coverage"


def test_a_process_that_died_at_the_end_left_a_run_to_end(importer: Importer) -> None:
    importer()
    before = importer.state()
    run_id = importer.run("NCF_BCE").info.run_id
    importer.place.client.update_run(run_id, "RUNNING")
    assert importer().counts["imported"] == 1
    assert importer.state() == before


def test_a_run_that_lost_its_row_gets_it_again(importer: Importer) -> None:
    importer()
    row = importer.place.artifact(importer.run("NCF_BCE"), "ledger/row.csv")
    row.unlink()
    told = importer()
    assert (told.counts["imported"], told.counts["already there"]) == (1, 2)
    assert row.is_file()
    assert len(importer.state()) == 3


def test_rows_are_found_behind_any_number_of_runs(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of one run stand for more runs than a page of the search holds."""
    importer()
    monkeypatch.setattr("mlflow.tracking.fluent.NUM_RUNS_PER_PAGE_PANDAS", 1)
    assert importer().counts["already there"] == 3


def test_a_changed_row_is_an_error_with_both_values_after_the_rest(importer: Importer) -> None:
    importer()
    run = importer.run("NCF_BCE")
    new = "ease_lambda=7,1.000000,0.300000,0.1,0.3,0.15,0.325000,20240104_000000,"
    changed = TEXT.replace("0.31,", "0.32,").rpartition("ease")[0] + new
    importer.ledger.write_text(changed)
    with pytest.raises(UserError, match=r"ndcg_at_10 was 0\.31, now 0\.32") as error:
        importer()
    assert f"{importer.ledger}, line 4: NCF_BCE 20240103_000000" in str(error.value)
    assert run.info.run_id in str(error.value)
    assert importer.counts() == {
        "imported": 1, "already there": 2, "changed": 1, "repaired": 3, "flagged": 1, "left out": 1,
    }  # fmt: skip
    assert importer.run("NCF_BCE").data.metrics == run.data.metrics
    assert importer.run("ease_lambda=7").info.status == "FINISHED"


def test_the_json_file_of_a_row_is_the_same_row(importer: Importer) -> None:
    fields = {"model_name": "NCF_BCE", "timestamp": "20240103_000000", "evaluation_date": None}
    path = importer.place.folder / "NCF_BCE_20240103_000000.json"
    path.write_text(json.dumps({**fields, "ndcg@10": 0.30999987654321, "epochs": 20}))
    assert importer(importer.ledger, path).counts["already there"] == 1
    assert len(importer.state()) == 3


def test_a_json_file_becomes_a_run_and_tells_its_counts(importer: Importer) -> None:
    path = importer.place.folder / "NCF_BCE_20240103_000000.json"
    path.write_text(json.dumps({"coverage@10": 0.33001, "n_items": 40}))
    told = importer(path, n_items=None)
    assert told.counts == {"imported": 1, "flagged": 1}
    run = importer.run("NCF_BCE")
    assert importer.place.json(run, "ledger/row.json") == json.loads(path.read_text())


def test_counts_given_later_flag_what_is_there(importer: Importer) -> None:
    assert "flagged" not in importer(n_items=None, n_users=None).counts
    run = importer.run("NCF_BCE")
    importer.place.client.set_tag(run.info.run_id, "mlflow.note.content", "my own words")
    assert importer().counts["flagged"] == 1
    tags = importer.run("NCF_BCE").data.tags
    assert tags["warning"] == "impossible-coverage"
    assert tags["mlflow.note.content"].startswith("**Warning:** this cannot be true: coverage")
    assert tags["mlflow.note.content"].endswith("\n\nmy own words")
    before = importer.state()
    importer()
    assert importer.state() == before


def test_nothing_readable_is_an_error(importer: Importer) -> None:
    importer.ledger.write_text(TEXT.splitlines()[0] + "\nbroken\n")
    with pytest.raises(UserError, match=r"ledger\.csv: no row can be read"):
        importer()
    assert any("line 2: 1 fields" in line for line in importer.caplog.messages)
    assert importer.state() == []


def test_under_mlflow_run_its_own_run_has_the_summary(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = importer.place.client.create_run("0", run_name="fancy-bird-123").info.run_id
    with importer.place.entered():
        monkeypatch.setenv("MLFLOW_RUN_ID", own)
        import_ledger([importer.ledger])
    run = importer.place.client.get_run(own)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"import_ledger {importer.ledger}"
    assert "| 3 | 0 | 0 | 2 | 0 | 2 |" in run.data.tags["mlflow.note.content"]
    assert len(importer.place.runs(source="ledger-csv")) == 3


def test_a_store_that_is_none_is_an_error(importer: Importer) -> None:
    with (
        importer.place.entered(f"file:{importer.place.folder}/mlruns"),
        pytest.raises(UserError, match=r"The tracking store file:.* did not list its runs"),
    ):
        import_ledger([importer.ledger])


def test_the_notebooks_ledger(importer: Importer) -> None:
    folder = os.environ.get("PIPELINE_DATA_DIR")
    if not folder or not (Path(folder) / LEDGER).is_file():
        pytest.skip(f"there is no {LEDGER} in PIPELINE_DATA_DIR, the folder of the data")
    path = Path(folder).resolve() / LEDGER
    content = path.read_bytes()
    told = importer(path, n_items=3662, n_users=836)
    assert told.counts == {"imported": 10, "repaired": 7, "flagged": 1}
    assert sum(line.startswith("Repaired: ") for line in told.lines) == 7
    (flagged,) = importer.place.runs(audit="impossible")
    assert flagged.info.run_name == "NCF_BCE"
    assert flagged.data.tags["warning"] == "impossible-coverage"
    assert "0.047117 x 3,662 items = 172.54" in flagged.data.tags["mlflow.note.content"]
    before = importer.state()
    told = importer(path, n_items=3662, n_users=836)
    assert told.counts == {"already there": 10, "repaired": 7, "flagged": 1}
    assert importer.state() == before
    assert path.read_bytes() == content
