"""Storages: which one is used, what is told of them, and trials whose worker is lost."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy import delete

from pipeline.database import hidden, shown
from pipeline.errors import UserError
from pipeline.tuning.storage import (
    EMBEDDED,
    LOST_AFTER,
    OPTUNA_STORAGE,
    RETRIES,
    open_storage,
    storage_url,
    try_again,
)
from tests.forks import at_once, killed_at
from tests.tuning.conftest import age

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used"),
]

HEARTBEAT = 15
SECRETS = [
    ("postgresql://u:s3cret@127.0.0.1:1/x", "s3cret"),
    ("postgresql+psycopg2://u:s3cret@127.0.0.1:1/x", "s3cret"),
    ("postgresql://127.0.0.1:1/x?user=u&password=s3cret", "s3cret"),
    ("postgresql://u:p%40ss%2Fw%20rd@127.0.0.1:1/x", "p@ss/w rd"),
    ("postgresql://127.0.0.1:1/x?user=u&password=p%40ss%2Fw%20rd", "p@ss/w rd"),
    ("postgresql://127.0.0.1:1/x?user=u&sslpassword=s3cret", "s3cret"),
]


def leaks(message: str, url: str, secret: str) -> list[str]:
    """Spellings of a secret that a message tells: as it is, or as it stands in the URL."""
    rest = url.partition("//u:")[2].rpartition("@")[0] or url.rpartition("password=")[2]
    spellings = {secret, rest, secret.replace("@", "%40").replace("/", "%2F").replace(" ", "+")}
    return [spelling for spelling in spellings if spelling in message]


def test_the_flag_then_the_variable_then_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTUNA_STORAGE, raising=False)
    assert storage_url(None) == EMBEDDED
    monkeypatch.setenv(OPTUNA_STORAGE, "postgresql://u:s3cret@host/db")
    assert storage_url(None) == "postgresql://u:s3cret@host/db"
    assert storage_url("sqlite:///mine.db") == "sqlite:///mine.db"
    assert storage_url("postgresql://u@host/db") == "postgresql://u@host/db"
    monkeypatch.setenv(OPTUNA_STORAGE, "")
    assert storage_url(None) == EMBEDDED


@pytest.mark.parametrize(("url", "secret"), SECRETS)
def test_a_password_in_the_flag_is_refused_and_not_told(url: str, secret: str) -> None:
    with pytest.raises(UserError) as caught:
        storage_url(url)
    assert f"Put the URL into the environment variable {OPTUNA_STORAGE}" in str(caught.value)
    assert leaks(str(caught.value), url, secret) == []


@pytest.mark.parametrize(
    ("url", "secret"), [*SECRETS, ("mysql://u:s3cret@127.0.0.1:1/x", "s3cret")]
)
def test_a_storage_that_cannot_be_reached(url: str, secret: str) -> None:
    with pytest.raises(UserError) as caught:
        open_storage(url, HEARTBEAT)
    message = str(caught.value)
    assert url.partition(":")[0] in message
    assert leaks(message, url, secret) == []
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(("url", "secret"), SECRETS)
def test_a_shown_url_hides_the_password_alone(url: str, secret: str) -> None:
    found = shown(url)
    assert leaks(found, url, secret) == []
    assert "127.0.0.1:1/x" in found
    assert "***" in found
    assert hidden(f"login failed: {secret} at x", url) == "login failed: *** at x"


@pytest.mark.parametrize(
    "url", ["optuna.db", "sqlite//x.db", "postgress://u:s3cret@host/x", "redis://u:s3cret@h", "://"]
)
def test_what_is_no_storage(url: str) -> None:
    for use in (storage_url, lambda found: open_storage(found, HEARTBEAT), shown):
        with pytest.raises(UserError, match="is none of a database") as caught:
            use(url)
        assert "s3cret" not in str(caught.value)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/x\.db cannot be used: .*unable to open"):
        open_storage(f"sqlite:///{tmp_path}/nowhere/x.db", HEARTBEAT)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("once upon a time " * 100)
    with pytest.raises(UserError, match=r"x\.db cannot be used: .*not a database"):
        open_storage(f"sqlite:///{tmp_path}/x.db", HEARTBEAT)


def test_studies_outlive_their_process(url: str) -> None:
    for number in range(2):
        study = optuna.create_study(
            storage=open_storage(url, HEARTBEAT), study_name="a", load_if_exists=True
        )
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        assert [trial.number for trial in study.trials] == list(range(number + 1))


def begun_elsewhere(study: Study, seconds_ago: int, **params: float) -> int:
    """A trial that runs in a process which gave its last sign of life some time ago."""
    study.sampler = optuna.samplers.PartialFixedSampler(params, study.sampler)
    trial_id = study._storage.create_new_trial(study._study_id)
    trial = Trial(study, trial_id)
    for name in params:
        trial.suggest_float(name, 0, 1)
    age(study, seconds_ago, trial.number)
    return trial.number


def make_study(url: str, **settings: Any) -> Study:
    study = optuna.create_study(storage=open_storage(url, HEARTBEAT), study_name="a", **settings)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    return study


def test_a_lost_trial_is_queued_with_its_parameters(url: str) -> None:
    study = make_study(url)
    lost = begun_elsewhere(study, LOST_AFTER * HEARTBEAT + 10, x=0.25)
    alive = begun_elsewhere(study, LOST_AFTER * HEARTBEAT - 10)
    optuna.storages.fail_stale_trials(study)
    trials = study.get_trials()
    assert (trials[lost].state, trials[alive].state) == (TrialState.FAIL, TrialState.RUNNING)
    (again,) = [trial for trial in trials if trial.state == TrialState.WAITING]
    assert again.params == {"x": 0.25}
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert study.best_value == 0.25


def test_a_trial_that_never_gave_a_sign_of_life_is_lost_in_time(url: str) -> None:
    """Its worker was killed between making it and the first sign."""
    study = make_study(url)
    silent = begun_elsewhere(study, 0, x=0.25)
    backend = study._storage._backend  # type: ignore[attr-defined]
    with backend.engine.begin() as connection:
        connection.execute(delete(models.TrialHeartbeatModel))
    optuna.storages.fail_stale_trials(study)
    assert study.get_trials()[silent].state == TrialState.RUNNING  # it may only be slow
    age(study, LOST_AFTER * HEARTBEAT + 10, silent)
    optuna.storages.fail_stale_trials(study)
    assert study.get_trials()[silent].state == TrialState.FAIL


def test_a_trial_that_kills_its_workers_is_not_tried_for_ever(url: str) -> None:
    study = make_study(url)
    study.ask()
    for attempt in range(RETRIES + 1):
        (running,) = study.get_trials(states=(TrialState.RUNNING,))
        study.tell(running.number, state=TrialState.FAIL)
        try_again(study, running.number)
        waiting = study.get_trials(states=(TrialState.WAITING,))
        assert len(waiting) == (attempt < RETRIES)
        if waiting:
            study.ask()


def test_only_an_interrupted_trial_is_queued(url: str) -> None:
    study = make_study(url)
    study.optimize(lambda trial: 1.0, n_trials=1)
    try_again(study, 0)
    assert len(study.trials) == 1


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_storage_in_memory_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="in memory, which workers cannot share"):
        open_storage(url, 15)


def test_an_at_sign_in_a_password_is_not_taken_for_a_host() -> None:
    with pytest.raises(UserError) as told:
        open_storage("postgresql://u:hun@ter2@127.0.0.1/d", 15)
    assert "write it as %40" in str(told.value)
    assert "ter2" not in str(told.value)


def test_two_that_look_at_a_queued_trial_at_once_do_not_both_take_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storages = [open_storage(url, 15), open_storage(url, 15)]
    study = optuna.create_study(storage=storages[0])
    study.enqueue_trial({"x": 0.5})
    found = models.TrialModel.find_or_raise_by_id

    def slowly(*args: Any, **kwargs: Any) -> Any:
        trial = found(*args, **kwargs)
        time.sleep(0.2)  # so that both have looked before either writes
        return trial

    monkeypatch.setattr(models.TrialModel, "find_or_raise_by_id", slowly)
    number = study.get_trials()[0]._trial_id
    with ThreadPoolExecutor(2) as pool:
        takes = [pool.submit(_take, storage, number) for storage in storages]
        assert sorted(take.result() for take in takes) == [False, True]


def _take(storage: RDBStorage, trial_id: int) -> bool:
    try:
        return storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False


def test_a_fresh_storage_is_made_whole_by_many_at_once_and_by_the_next_after_a_kill(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    assert killed_at(8, lambda: open_storage(url)) == -signal.SIGKILL
    assert at_once(4, lambda which: open_storage(url)) == [0] * 4
    assert optuna.get_all_study_names(open_storage(url)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["optuna.db"]
