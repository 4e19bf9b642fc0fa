"""Runs found again by the key of their step."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import pytest

from pipeline.errors import UserError
from pipeline.tracking.search import STEP_KEY, find_finished
from tests.steps.workplace import Workplace


@pytest.fixture
def here(workplace: Workplace) -> Iterator[Workplace]:
    with workplace.entered():
        yield workplace


def test_a_store_that_cannot_be_searched_is_told(here: Workplace) -> None:
    mlflow.set_tracking_uri(f"file:{here.folder}/store")
    with pytest.raises(UserError, match="file:"):
        find_finished("abc")


def test_only_finished_runs_are_found_again_the_latest_first(here: Workplace) -> None:
    def ended(status: str, key: str) -> str:
        run = here.client.create_run("0", tags={STEP_KEY: key})
        here.client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    assert find_finished("abc") is None
    ended("FAILED", "abc")
    ended("KILLED", "abc")
    assert find_finished("abc") is None
    ended("FINISHED", "abc")
    latest = ended("FINISHED", "abc")
    ended("FINISHED", "other")
    found = find_finished("abc")
    assert found is not None
    assert found.id == latest
    here.client.delete_run(latest)
    again = find_finished("abc")
    assert again is not None
    assert again.id != latest
