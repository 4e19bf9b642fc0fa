"""evaluate: full ranking of a trained model on the test, logged on the model's own run."""

from __future__ import annotations

import logging

from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import Ranked, recommendations
from pipeline.evaluation.evaluate import evaluate as evaluate_model
from pipeline.steps.identity import step_key
from pipeline.steps.inputs import Inputs
from pipeline.steps.notes import describe
from pipeline.steps.train import Trained
from pipeline.tracking.models import fetch_model, run_of_model
from pipeline.tracking.runs import Run

EVALUATED = "evaluated"

log = logging.getLogger("pipeline")


def evaluate(trained: Trained, *, reuse: bool = True) -> None:
    """Evaluate the model of a run once; test metrics, lists and per-user values go to that run.

    Raises:
        UserError: the run has no model, or its dataset is no longer what it was.
    """
    run = trained.run
    inputs = Inputs.of(run)
    key = step_key("evaluate", {"run": run.id, "fingerprint": inputs.fingerprint})
    if reuse and run.tags.get(EVALUATED) == key:
        log.info("evaluate: reused the test metrics of run %s", run.id)
        return
    dataset = inputs.prepared().dataset
    model = trained.recommender or fetch_model(run).recommender
    log_test(run, evaluate_model(model, dataset, inputs.experiment.k), dataset)
    run.set_tags({EVALUATED: key})
    run.describe(describe(run))


def find_trained(run_id: str | None, model: str | None) -> Trained:
    """The run named by its id or by the registered model that it made.

    Raises:
        UserError: neither or both are given, or there is no such model.
    """
    if (run_id is None) == (model is None):
        raise UserError("Give either --run_id RUN_ID or --model models:/NAME@ALIAS.")
    return Trained(Run(run_id) if run_id else run_of_model(str(model)), None)


def log_test(run: Run, ranked: Ranked, dataset: Dataset) -> None:
    """Log test metrics, per-user metrics and recommendations."""
    summary = ranked.evaluation.summary
    run.log_metrics({f"test/{name}": value for name, value in summary.items()})
    per_user = ranked.evaluation.per_user
    per_user.insert(0, "user", dataset.users["user"].to_numpy()[ranked.users])
    run.log_parquet(per_user, "test/per_user.parquet")
    run.log_parquet(recommendations(ranked, dataset), "test/recommendations.parquet")
    log.info(
        "%s on the test: %s",
        run.name,
        ", ".join(
            f"{name} {summary[name]:.4f}"
            for name in summary
            if name.startswith(("ndcg", "hit_rate", "coverage", "popularity_overlap"))
        ),
    )
