"""docs/extending.md, done as it stands there: in a folder of its own, by the commands it gives."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from pipeline import code
from pipeline.errors import UserError
from pipeline.models import family
from tests.steps.workplace import Workplace, answering, free_port, make_workplace

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """A folder with the files of the page, in which its commands have been run, but the last."""
    place = make_workplace(tmp_path_factory.mktemp("own"), ratings, store)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, content in FILES.items():
        (place.folder / name).write_text(content)
    for command in COMMANDS.splitlines()[:-1]:
        done = place.cli(*command.split()[3:])
        assert done.status == 0, f"{command}: {done.told}"
    monkeypatch.undo()
    return place


def test_each_is_at_most_forty_lines() -> None:
    assert {name: text.count("\n") for name, text in FILES.items() if text.count("\n") > 40} == {}


def test_they_are_tuned_trained_and_compared(place: Workplace) -> None:
    client = mlflow.MlflowClient(place.uri)
    runs = client.search_runs(["0"], "attributes.status = 'FINISHED'")
    by_step = pd.Series([run.data.tags["step"] for run in runs]).value_counts()
    assert by_step["trial"] == 6
    tuned = [run for run in runs if run.data.tags.get("experiment", "").endswith("_tuned")]
    assert len(tuned) == 2
    assert all("test/tail_at_10" in run.data.metrics for run in tuned)
    (compared,) = (run for run in runs if run.data.tags["step"] == "compare")
    note = compared.data.tags["mlflow.note.content"]
    assert all(word in note for word in ("tail", "walk_tuned", "dot_tuned"))


def test_a_loss_of_ones_own_is_learned_by(place: Workplace) -> None:
    client = mlflow.MlflowClient(place.uri)
    runs = client.search_runs(["0"], "params.loss = 'my_loss.py:hinge'")
    (run,) = (each for each in runs if each.data.tags["step"] == "train")
    losses = [point.value for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert losses[-1] < losses[0]


def test_the_network_is_served_with_its_code_from_elsewhere(
    place: Workplace, tmp_path: Path
) -> None:
    port = free_port("127.0.0.1")
    command = COMMANDS.splitlines()[-1].replace("5001", str(port)).split()
    elsewhere = Workplace(tmp_path)
    with (tmp_path / "log").open("w") as told:
        process = elsewhere.start(*command, told=told, MLFLOW_TRACKING_URI=place.uri)
    with answering(process, f"http://127.0.0.1:{port}") as url:
        asked = json.dumps({"dataframe_records": [{"user": 10}], "params": {"k": 3}}).encode()
        request = urllib.request.Request(
            f"{url}/invocations", asked, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            rows = json.load(answer)["predictions"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert {row["fallback"] for row in rows} == {""}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.py:A", "model=none.py:A: there is no file none.py. Expected FILE.py:NAME"),
        ("nothing.here:A", "nothing.here cannot be imported: ModuleNotFoundError"),
        ("some.py:B", "some.py has no B; it has: Mine"),
        ("some.py:number", "some.py has a number that is no model; it has: Mine"),
        ("broken.py:A", "broken.py cannot be imported: ZeroDivisionError: division by zero "
         "(broken.py, line 2)"),
        ("json.py:A", "Python knows another json"),
    ],
)  # fmt: skip
def test_what_is_not_found_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    mine = "from pipeline.models.popularity import MostPopular\nnumber = 3\n"
    (tmp_path / "some.py").write_text(f"{mine}class Mine(MostPopular): ...\n")
    (tmp_path / "broken.py").write_text("one = 1\nnone = one / 0\n")
    (tmp_path / "json.py").write_text("")
    with pytest.raises(UserError, match=re.escape(why)):
        family(name)
    for module in ("some", "broken"):
        sys.modules.pop(module, None)


def test_unknown_losses_and_metrics_are_refused(place: Workplace) -> None:
    done = place.cli("train", "--config=dot.yaml", "--dataset=ratings.csv", "--loss=hinge")
    assert done.status == 1
    assert "loss='hinge': expected bpr, bpr_sigmoid, bce, softmax, or one's own" in done.told
    done = place.cli("train", "--config=dot.yaml", "--metrics=my_metric.py:head")
    assert done.status == 1
    assert "my_metric.py has no head; it has: tail" in done.told


def test_a_change_of_own_code_trains_anew_and_of_what_it_only_tells_not(place: Workplace) -> None:
    words = ("train", "--config=walk.yaml", "--dataset=ratings.csv")
    assert "reused" not in place.cli(*words).told
    assert "reused run" in place.cli(*words).told
    file = place.folder / "my_walk.py"
    file.write_text(file.read_text() + "CHANGED = 1\n")
    sys.modules.pop("my_walk")
    code._imported.cache_clear()
    assert "reused" not in place.cli(*words).told
