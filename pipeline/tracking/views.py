"""What MLflow's UI shows of an experiment: saved views, the metric that matters, a description.

A view is a tag of the experiment, which the UI reads: which runs, in which order, which columns.
The links that commands print open one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import Experiment
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _get_experiment_id  # MLflow has no public name for it

from pipeline.compare.contenders import NOT_SETTINGS
from pipeline.evaluation.metrics import HEADLINE
from pipeline.tracking.leaderboard import TITLE, leaderboard
from pipeline.tracking.links import LEADERBOARD, STUDIES
from pipeline.tracking.runs import NOTE
from pipeline.tracking.store import HURRY_SECONDS, ask, delivering
from pipeline.tracking.trials import STUDY

TAG = "mlflow.sharedViewState."
CREATED = 1_700_000_000_000  # of every view, so that the same view is the same tag
PRIMARY = "mlflow.experiment.primaryMetric."
KIND = {"mlflow.experimentKind": "custom_model_development"}  # and not "GenAI", an empty page
MOST_RUNS, MOST_PARAMS = 100, 8  # whose parameters are looked at; that are columns
OPEN_STUDIES = 3  # whose trials are seen at once
WIDTH = 130  # pixels of a column, for heads such as test/ndcg_at_10
LONGEST = 4500  # letters of a tag, of 5000 that MLflow keeps

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class View:
    """A table of runs: some of a kind, in an order, with some columns."""

    key: str
    name: str
    which: str
    """As MLflow searches for runs."""
    order: str
    columns: Sequence[str]
    expanded: Sequence[str] = ()
    """Runs whose children are seen."""

    def tag(self) -> str:
        """As the UI keeps it; its state is what it would keep of a person's own choices."""
        state = {
            "searchFilter": self.which,
            "orderByKey": self.order,
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": list(self.columns),
            "columnOrder": list(self.columns),  # else they are in alphabetical order
            "columnWidths": dict.fromkeys(self.columns, WIDTH),
            "runsHiddenMode": "FIRST_20_RUNS",
            "runsExpanded": dict.fromkeys(self.expanded, True),
        }
        times = {"createdAt": CREATED, "updatedAt": CREATED}
        return json.dumps({"name": self.name, **times, "state": json.dumps(state)})


def show_experiment(experiment_id: str, k: int = 10) -> None:
    """Bring the views and the description of an experiment up to date, where that can be had now.

    A description that a person has written stays.
    """
    with delivering() as delivery:
        if not delivery.settle(HURRY_SECONDS):
            return
    client = mlflow.MlflowClient()
    try:
        experiment = client.get_experiment(experiment_id)
        runs = _models(client, experiment_id, k)
        for key, value in _tags(experiment, runs, _studies(client, experiment_id), k).items():
            if experiment.tags.get(key) != value:
                client.set_experiment_tag(experiment_id, key, value)
    except MlflowException as error:  # it is away, or lets others edit alone
        log.debug("The views of experiment %s are as they were: %s", experiment_id, error)


def current_experiment(k: int = 10) -> str:
    """The id of the MLflow experiment in use, its views brought up to date.

    Raises:
        UserError: the store does not answer.
    """
    found = str(ask(_get_experiment_id) or "0")
    show_experiment(found, k)
    return found


def _models(client: mlflow.MlflowClient, experiment_id: str, k: int) -> list[MlflowRun]:
    """Tested runs of models, the best first."""
    found: Sequence[MlflowRun] = client.search_runs(
        [experiment_id],
        "tags.step = 'train' and attributes.status = 'FINISHED'",
        max_results=MOST_RUNS,
        order_by=[f"metrics.`{_ndcg(k)}` DESC"],
    )
    return [run for run in found if _ndcg(k) in run.data.metrics]


def _studies(client: mlflow.MlflowClient, experiment_id: str) -> list[str]:
    """The latest studies' runs."""
    found = client.search_runs([experiment_id], "tags.step = 'tune'", max_results=OPEN_STUDIES)
    return [run.info.run_id for run in found]


def _tags(
    experiment: Experiment, runs: Sequence[MlflowRun], studies: Sequence[str], k: int
) -> dict[str, str]:
    tags = {PRIMARY + "name": _ndcg(k), PRIMARY + "greaterIsBetter": "true", **KIND}
    for view in _views(runs, studies, k):
        if len(text := view.tag()) <= LONGEST:
            tags[TAG + view.key] = text
    written = experiment.tags.get(NOTE, "")
    if runs and (not written or written.startswith(TITLE)):
        tags[NOTE] = leaderboard(runs, k)
    return tags


def _views(runs: Sequence[MlflowRun], studies: Sequence[str], k: int) -> list[View]:
    about = ["tags.`dataset`", "tags.`split`"]
    tested = [f"metrics.`test/{name}_at_{k}`" for name in HEADLINE]
    differing = [f"params.`{name}`" for name in _differing(run.data.params for run in runs)]
    count, best = ["metrics.`trials/complete`"], f"metrics.`best/ndcg_at_{k}`"
    validated = f"metrics.`val/ndcg_at_{k}`"
    return [
        View(
            LEADERBOARD, "Leaderboard", "tags.step = 'train'", f"metrics.`{_ndcg(k)}`",
            [*tested, *about, "params.`model`", *differing],
        ),
        View(
            STUDIES, "Studies and their trials", f"tags.{STUDY} IS NOT NULL", best,
            [best, *count, validated, "tags.`trial_state`", tested[0], *about], studies,
        ),
        View(
            "trials", "Trials", "tags.step = 'trial'", validated,
            [validated, "tags.`trial_state`", f"tags.`{STUDY}`"],
        ),
        View(
            "comparisons", "Comparisons", "tags.step = 'compare'", "attributes.start_time",
            ["params.`metric`", "params.`baseline`", *about],
        ),
    ]  # fmt: skip


def _differing(params: Iterable[Mapping[str, str]]) -> list[str]:
    """Settings of which runs that have them have several values; the most varied first."""
    values: dict[str, set[Any]] = {}
    for each in params:
        for name in each.keys() - NOT_SETTINGS | (each.keys() & {"seed"}):
            values.setdefault(name, set()).add(each[name])
    several = [name for name, found in values.items() if len(found) > 1 and name != "model"]
    return sorted(several, key=lambda name: (-len(values[name]), name))[:MOST_PARAMS]


def _ndcg(k: int) -> str:
    return f"test/ndcg_at_{k}"
