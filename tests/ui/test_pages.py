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
WINDOW = {"width": 1600, "height": 800}
SLOW = 60_000  # milliseconds, for what takes a second or two

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame) -> Workplace:
    """Three models, tested and compared, one of them registered, and a study."""
    place = make_workplace(tmp_path_factory.mktemp("ui"), ratings, None)
    data = ("--dataset", "ratings.csv")
    for flags in (("most_popular",), ("svd",), ("svd", "--components=12")):
        assert place.cli("train", "--model", *flags, *data).status == 0
        run = place.runs(step="train")[0]
        assert place.cli("evaluate", "--run_id", run.info.run_id).status == 0
    assert place.cli("evaluate", "--run_id", run.info.run_id, "--register", "films").status == 0
    assert place.cli("compare", "--report").status == 0
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
        page = browser.new_page(viewport=WINDOW)
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
    page.goto(
        f"{board.partition('#')[0]}#/compare-runs?runs={runs}&experiments={experiments}&{TRAINING}"
    )
    page.get_by_text("Parallel Coordinates Plot").wait_for()
    chosen = page.get_by_text(re.compile(r"_at_10$")).first
    chosen.wait_for()
    assert chosen.inner_text() == "val/ndcg_at_10"  # what was logged first; the test comes later
    assert "data/" not in page.content()
    keep(page, "compare")


def test_trials_are_under_their_study(page: Any, board: str, place: Workplace) -> None:
    page.goto(board.replace("=leaderboard", "=studies"))
    page.get_by_text(re.compile(r"^trial 0: ")).first.wait_for()
    rows = page.locator(".ag-pinned-left-cols-container [row-index]")
    told = rows.evaluate_all(
        "all => all.sort((x, y) => x.getAttribute('row-index') - y.getAttribute('row-index'))"
        ".map(x => x.innerText)"
    )
    names = [re.search(r"^(tune|trial \d|svd_tuned)", each, re.MULTILINE) for each in told]
    found = [name[1] for name in names if name is not None]
    assert found[0] == "tune"
    assert sorted(found[1:]) == ["svd_tuned", "trial 0", "trial 1", "trial 2"]
    keep(page, "trials")


def test_a_version_shows_its_metrics_and_its_card(page: Any, board: str, place: Workplace) -> None:
    version = place.client.get_model_version("films", "1")
    run = place.client.get_run(str(version.run_id))
    page.goto(f"{board.partition('#')[0]}#/models/films/versions/1")
    page.get_by_text("is the champion").first.wait_for()
    value = f"{run.data.metrics['test/ndcg_at_10']:.4f}"
    page.get_by_role("cell", name=value, exact=True).first.wait_for()
    keep(page, "version")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="open it").click()
    opened.value.get_by_text("a recommender of family").first.wait_for()
    opened.value.close()


def test_the_report_is_shown_as_a_page(page: Any, board: str, place: Workplace) -> None:
    run = place.runs(step="compare")[0]
    artifact = f"runs/{run.info.run_id}/artifacts/report.html?{TRAINING}"
    page.goto(f"{board.partition('#')[0]}#/experiments/0/{artifact}")
    shown = page.frame_locator("iframe")
    shown.get_by_role("heading", name="What may be concluded").wait_for()
    pictures = shown.locator("img")
    assert pictures.count() == 4
    assert pictures.evaluate_all("all => all.every(x => x.complete && x.naturalWidth > 0)")
    (report,) = (place.folder / "data" / "reports").glob("compare-*.html")
    page.goto(report.as_uri())
    keep(page, "report")


def test_a_report_can_be_read_on_a_telephone(page: Any, place: Workplace) -> None:
    (report,) = (place.folder / "data" / "reports").glob("compare-*.html")
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(report.as_uri())
    width = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size(WINDOW)
    assert width <= 390


def test_a_figure_is_shown(page: Any, board: str, place: Workplace) -> None:
    run = place.runs(step="compare")[0]
    artifact = f"runs/{run.info.run_id}/artifacts/figures/differences.png?{TRAINING}"
    page.goto(f"{board.partition('#')[0]}#/experiments/0/{artifact}")
    picture = page.locator("img[src^=blob]").first
    picture.wait_for(state="attached")
    assert picture.evaluate("x => x.naturalWidth") > 500
    page.goto(place.artifact(run, "figures/differences.png").as_uri())
    page.locator("img").screenshot(path=PICTURES / "figure.png")


def test_who_has_chosen_models_once_need_not_again(page: Any, board: str) -> None:
    """A bare link opens MLflow's page for GenAI until then; its server has no say in that."""
    page.goto(board.partition("#")[0])
    page.get_by_text("Model training", exact=True).first.click()
    page.goto(f"{board.partition('#')[0]}#/experiments/0/runs")
    page.get_by_text("Model registry").first.wait_for()
    assert page.get_by_text("Observability").count() == 0  # of GenAI


def test_a_run_is_shown_as_a_run_of_a_model(page: Any, board: str, place: Workplace) -> None:
    run = place.runs(step="train", experiment="svd")[0]
    page.goto(f"{board.partition('#')[0]}#/experiments/0/runs/{run.info.run_id}?{TRAINING}")
    page.get_by_text("most_popular, test").wait_for()
    keep(page, "run")
