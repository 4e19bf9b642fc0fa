"""MLflow's pages as a person meets them, in a real browser: ``make test-ui``.

The pictures that it takes are left in the folder ``PICTURES``; those of the README are in
docs/images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest

from pipeline.tracking.links import TRAINING
from tests.steps.workplace import Workplace, answering, free_port, make_workplace

sync_api = pytest.importorskip("playwright.sync_api", reason="make test-ui installs Playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PICTURES = Path(os.environ.get("PICTURES", "data/pictures"))
SLOW = 60_000  # milliseconds, for what takes a second or two

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame) -> Workplace:
    """Three models, tested and compared, and a study."""
    place = make_workplace(tmp_path_factory.mktemp("ui"), ratings, None)
    data = ("--dataset", "ratings.csv")
    for flags in (("most_popular",), ("svd",), ("svd", "--components=12")):
        assert place.cli("train", "--model", *flags, *data).status == 0
        run = place.runs(step="train")[0]
        assert place.cli("evaluate", "--run_id", run.info.run_id).status == 0
    assert place.cli("compare").status == 0
    tune = ("tune", "--model=svd", "--n_trials=3", "--n_seeds=1", "--workers=1", *data)
    outcome = place.call("pipeline", *tune)
    assert outcome.status == 0, outcome.told
    return place


@pytest.fixture(scope="module")
def board(place: Workplace) -> Iterator[str]:
    """The link that ``ui`` prints."""
    port = free_port("127.0.0.1")
    with (place.folder / "ui.log").open("w") as told:
        process = place.start("pipeline", "ui", "--port", str(port), told=told)
    with answering(process, f"http://127.0.0.1:{port}"):
        found = re.search(r"http://\S+leaderboard", (place.folder / "ui.log").read_text())
        assert found is not None
        yield found[0]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 800})
        page.set_default_timeout(SLOW)
        yield page
        browser.close()


def keep(page: Any, name: str) -> None:
    """A picture of what is seen, without the assistant beside it."""
    close = page.get_by_label("Close", exact=True)
    if close.count():
        close.first.click()
    page.wait_for_timeout(1000)  # what moves has come to rest
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def values_of(page: Any, column: str) -> list[float]:
    """The numbers of a column of the table of runs, from top to bottom."""
    cells = page.locator(f".ag-center-cols-container [col-id='{column}']")
    cells.first.wait_for()
    rows = cells.evaluate_all(
        "all => all.map(x => [+x.closest('[row-index]').getAttribute('row-index'), x.innerText])"
    )
    return [float(text) for _, text in sorted(rows) if text.strip()]


def test_the_link_shows_the_models_by_ndcg(page: Any, board: str) -> None:
    page.goto(board)
    found = values_of(page, "metrics.`test/ndcg_at_10`")
    assert len(found) == 4
    assert found == sorted(found, reverse=True)
    heads = page.locator(".ag-header-cell[col-id^='metrics']")
    lefts = heads.evaluate_all(
        "all => all.map(x => [x.getBoundingClientRect().left, x.getAttribute('col-id')])"
    )
    assert min(lefts)[1] == "metrics.`test/ndcg_at_10`"
    assert "svd components=12" in page.content()
    keep(page, "leaderboard")


def test_two_runs_compared_begin_with_ndcg(page: Any, board: str, place: Workplace) -> None:
    ids = [run.info.run_id for run in place.runs(step="train", experiment="svd")]
    runs, experiments = (quote(json.dumps(each)) for each in (ids, ["0"]))
    page.goto(f"{board.partition('#')[0]}#/compare-runs?runs={runs}&experiments={experiments}")
    page.get_by_text("Parallel Coordinates Plot").wait_for()
    chosen = page.get_by_text(re.compile(r"ndcg_at_10$")).first
    chosen.wait_for()
    assert "data/" not in page.content()
    keep(page, "compare")


def test_trials_are_called_by_their_values(page: Any, board: str, place: Workplace) -> None:
    page.goto(board.replace("=leaderboard", "=trials"))
    page.get_by_text(re.compile(r"^trial 0: ")).first.wait_for()
    keep(page, "trials")


def test_a_run_is_shown_as_a_run_of_a_model(page: Any, board: str, place: Workplace) -> None:
    run = place.runs(step="train", experiment="svd")[0]
    page.goto(f"{board.partition('#')[0]}#/experiments/0/runs/{run.info.run_id}?{TRAINING}")
    page.get_by_text("most_popular, test").wait_for()
    keep(page, "run")
