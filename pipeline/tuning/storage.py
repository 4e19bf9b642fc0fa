"""Where studies are kept: a database, so that they outlive the processes that work on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pipeline.database import hidden, is_sqlite, read_url, secrets, shown
from pipeline.errors import UserError
from pipeline.sqlite import make_whole

OPTUNA_STORAGE = "OPTUNA_STORAGE"
EMBEDDED = "sqlite:///optuna.db"
RETRIES = 2  # of a trial whose worker was lost; then it may be the trial that kills workers
LOST_AFTER = 4  # heartbeats without one
BUSY_SECONDS = 60  # that SQLite waits for another process's transaction

RETRY = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)


# Trials that run and have never given a sign of life.
SILENT = text(
    "SELECT trials.trial_id FROM trials LEFT JOIN trial_heartbeats"
    " ON trial_heartbeats.trial_id = trials.trial_id"
    " WHERE trials.study_id = :study AND trials.state = 'RUNNING'"
    " AND trial_heartbeats.trial_id IS NULL"
)


class _Storage(RDBStorage):
    """Has a sign of life of each trial from its first moment.

    Optuna's own begin with the objective; a worker that is killed before, while its sampler seeks
    parameters, would leave a trial that runs for ever. One that is killed before even ours is
    written is given one by whoever looks for the lost: if nothing follows, it is lost, too.
    """

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        with self.engine.connect() as connection:
            silent = connection.execute(SILENT, {"study": study_id}).scalars().all()
        for trial_id in silent:
            self.record_heartbeat(trial_id)
        return super()._get_stale_trial_ids(study_id)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        trial = super()._create_new_trial(study_id, template_trial)
        if trial.state == TrialState.RUNNING:
            self.record_heartbeat(trial._trial_id)
        return trial

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        is_set = super().set_trial_state_values(trial_id, state, values)
        if is_set and state == TrialState.RUNNING:  # it was queued
            self.record_heartbeat(trial_id)
        return is_set


def storage_url(flag: str | None) -> str:
    """The storage in use: the flag, else OPTUNA_STORAGE, else a SQLite file here.

    Raises:
        UserError: the flag holds a password, which would stand in the process list and, by
            ``mlflow run``, in a run.
    """
    if flag and secrets(read_url(flag)):
        raise UserError(
            f"--storage {shown(flag)}: a password in a flag can be read by others. Put the URL "
            f"into the environment variable {OPTUNA_STORAGE}. If this came by mlflow run -P, its "
            f"run has kept the password: change it."
        )
    return flag or os.environ.get(OPTUNA_STORAGE) or EMBEDDED


def open_storage(url: str, heartbeat: int | None = None) -> RDBStorage:
    """The storage; trials without a sign of life for four times ``heartbeat`` [s] are run again.

    Without a heartbeat it is good for reading only.

    Raises:
        UserError: it cannot be reached or used.
    """
    parsed = read_url(url)
    if is_sqlite(parsed) and parsed.database in (None, "", ":memory:"):
        raise UserError(
            f"The storage {url} is in memory, which workers cannot share and which is gone at the "
            f"end: expected a file, as in {EMBEDDED}."
        )
    if is_sqlite(parsed):
        make_whole(Path(str(parsed.database)), lambda new: _make(parsed.set(database=str(new))))
    engine = {"connect_args": {"timeout": BUSY_SECONDS}} if is_sqlite(parsed) else {}
    try:
        storage = _Storage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs={"pool_pre_ping": True, **engine},
            heartbeat_interval=heartbeat,
            grace_period=LOST_AFTER * heartbeat if heartbeat else None,
            heartbeat_stale_trial_callback=RETRY,
        )
        if is_sqlite(parsed):
            _lock_at_once(storage.engine)
        return storage
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        why = hidden(str(error).splitlines()[0], url)
        raise UserError(f"The storage {shown(url)} cannot be used: {why}") from None


def _make(url: URL) -> None:
    """Optuna's tables in a new file."""
    RDBStorage(url.render_as_string()).engine.dispose()


def _lock_at_once(engine: Engine) -> None:
    """Let a SQLite transaction lock when it begins, not when it first writes.

    Otherwise two workers that look at a queued trial at the same moment would both take it.
    """
    engine.dispose()  # connections of before the change

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def try_again(study: Study, number: int) -> None:
    """Queue a trial that an interruption has ended."""
    (trial,) = (each for each in study.get_trials() if each.number == number)
    if trial.state == TrialState.FAIL:
        RETRY(study, trial)
