"""Plans and studies that the tests of tuning share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import RDBStorage
from optuna.study import Study
from sqlalchemy import text

from pipeline.tuning import work
from pipeline.tuning.plan import Plan
from pipeline.tuning.study import PARENT_RUN, READY, open_study
from pipeline.tuning.study_files import read_plan

MakePlan = Callable[..., Plan]
MakeStudy = Callable[..., Study]

DATA = {"dataset": "small", "fingerprint": "f" * 16}


def pytest_itemcollected(item: pytest.Item) -> None:
    """pytest forgets the filter for warnings that the package itself sets."""
    item.add_marker(pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look again soon whether there is something to do."""
    monkeypatch.setattr(work, "IDLE_SECONDS", 0.01)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A storage of the test's own."""
    return f"sqlite:///{tmp_path / 'studies.db'}"


def age(study: Study, seconds: int, *numbers: int) -> None:
    """Let the last sign of life of some trials, in SQLite, lie so far back."""
    backend = study._storage._backend  # type: ignore[attr-defined]
    assert isinstance(backend, RDBStorage)
    ids = ", ".join(str(each._trial_id) for each in study.get_trials() if each.number in numbers)
    past = f"datetime('now', '-{seconds} seconds')"
    with backend.engine.begin() as connection:
        aged = connection.execute(
            text(f"UPDATE trial_heartbeats SET heartbeat = {past} WHERE trial_id IN ({ids})")
        )
    assert aged.rowcount == len(numbers)


@pytest.fixture(scope="session")
def make_plan(tmp_path_factory: pytest.TempPathFactory) -> MakePlan:
    """Makes the plan of a study file with these fields, of an experiment with this model."""

    folder = tmp_path_factory.mktemp("plans")

    def make(model: str = "svd", /, flags: dict[str, Any] | None = None, **fields: Any) -> Plan:
        (folder / f"{model}.yaml").write_text(f"model: {model}\n")
        file = folder / "study.yaml"
        file.write_text(yaml.safe_dump({"config": f"{model}.yaml", **fields}))
        return read_plan(file, None, flags or {})

    return make


@pytest.fixture(scope="session")
def make_study() -> MakeStudy:
    """Makes a study that workers can join, in memory if no storage is given."""

    def make(plan: Plan, storage: Any = None, name: str = "a study") -> Study:
        study = open_study(storage or optuna.storages.InMemoryStorage(), name, plan, DATA)
        study.set_user_attr(PARENT_RUN, "0" * 32)
        study.set_user_attr(READY, True)
        return study

    return make
