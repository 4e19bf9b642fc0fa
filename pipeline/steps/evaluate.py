"""evaluate: full ranking of a trained model on the test, logged on the model's own run."""

from __future__ import annotations

import logging

from pipeline.compare.card import CARD, model_card
from pipeline.compare.evidence import EVIDENCE, LISTS, PER_USER, evidence_tag
from pipeline.compare.looks import count_looks
from pipeline.config import Experiment
from pipeline.console import waiting
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import Prepared
from pipeline.data.split_settings import COLD, LOW_ACTIVITY
from pipeline.errors import UserError
from pipeline.evaluation.breakdown import breakdown
from pipeline.evaluation.candidates import say_cost_of_ranking
from pipeline.evaluation.evaluate import FullRanking, recommendations
from pipeline.evaluation.evaluate import evaluate as evaluate_model
from pipeline.evaluation.metrics import HEADLINE
from pipeline.evaluation.sample import SAMPLE, standard_errors
from pipeline.models.base import Recommender
from pipeline.outbox.contents import Contents, listed
from pipeline.steps.identity import step_key
from pipeline.steps.inputs import Inputs
from pipeline.steps.notes import describe, remember_popularity
from pipeline.steps.train import Trained
from pipeline.tracking.hints import command
from pipeline.tracking.models import fetch_model, run_of_model
from pipeline.tracking.runs import Run
from pipeline.tracking.search import find_evaluated
from pipeline.tracking.store import delivering

EVALUATED = "evaluated"
BREAKDOWN = "test/breakdown.json"

log = logging.getLogger("pipeline")


def evaluate(trained: Trained, prepared: Prepared | None = None, *, reuse: bool = True) -> None:
    """Evaluate the model of a run once; test metrics, lists and per-user values go to that run.

    ``prepared`` is the dataset that it was trained on, where that is at hand.

    Raises:
        UserError: the run has no model, lacks its beginning, or its dataset is no longer what it
            was.
    """
    run, inputs = trained.run, trained.inputs
    content = {"run": run.id, "fingerprint": inputs.fingerprint}
    made_by = inputs.experiment.recommender().made_by
    key = step_key(
        "evaluate", content, (FullRanking, breakdown, *made_by), inputs.experiment.own_modules
    )
    must = _must_hold(inputs.experiment)
    with delivering():
        known = reuse and run.tags.get(EVALUATED) == key
        if known and not run.contents(must).lacks(must):
            log.info("evaluate: reused the test metrics of run %s", run.id)
            return
        if trained.recommender is None:
            _require_beginning(run, inputs)
        with waiting(f"Testing {inputs.experiment.name}"):
            dataset = (prepared or inputs.prepared()).dataset
            model = trained.recommender or fetch_model(run).recommender
            log_test(run, model, dataset, inputs.experiment)
        run.set_tags({EVALUATED: key})
        run.describe(describe(run))


def _require_beginning(run: Run, inputs: Inputs) -> None:
    must = Contents.named(params=["dataset"], datasets=[inputs.fingerprint])
    if lacking := run.contents(must).lacks(must):
        raise UserError(
            f"Run {run.id} lacks {listed(lacking)}, as one that was killed at its beginning. Go on "
            f"with it first: {command(f'train --resume {run.id}')}"
        )


def _must_hold(experiment: Experiment) -> Contents:
    """What a run holds that is evaluated."""
    metric = experiment.selection_metric
    return Contents.named(
        metrics=[f"test/{metric}"],
        tags=[EVIDENCE],
        files=[CARD, PER_USER, LISTS, BREAKDOWN],
    )


def find_trained(run_id: str | None, model: str | None) -> Trained:
    """What ``find_run`` finds, with what it was asked for.

    Raises:
        UserError: as ``find_run``, or it is no run of ``train``.
    """
    with delivering():  # first of what the run's process may have left
        run = find_run(run_id, model)
        return Trained(run, Inputs.of(run), None)


def find_run(run_id: str | None, model: str | None) -> Run:
    """The run named by its id or by the registered model that it made.

    Raises:
        UserError: neither or both are given, or there is no such model.
    """
    if (run_id is None) == (model is None):
        raise UserError("Give either --run_id RUN_ID or --model models:/NAME@ALIAS.")
    return Run(run_id) if run_id else run_of_model(str(model))


def log_test(run: Run, model: Recommender, dataset: Dataset, experiment: Experiment) -> None:
    """Log test metrics of all segments, the model card, and of the warm users their lists,
    values and groups."""
    ks, own = experiment.k, experiment.own_metrics
    say_cost_of_ranking(model, len(dataset.test_users), dataset.n_items)
    ranking = FullRanking(dataset, ks, own=own, sample=experiment.eval_users)
    warm = ranking.evaluate(model)
    errors = standard_errors(warm.evaluation.per_user, warm.of)
    metrics = {f"test/{name}": x for name, x in (warm.evaluation.summary | errors).items()}
    for segment in (LOW_ACTIVITY, COLD):
        if len(dataset.segments[segment].users):
            ranked = evaluate_model(model, dataset, ks, segment, own, experiment.eval_users)
            summary = ranked.evaluation.summary
            metrics |= {f"test/{segment}/{name}": value for name, value in summary.items()}
    run.log_metrics(metrics)
    if warm.sample is not None:
        run.set_tags({SAMPLE: warm.sample})
        log.info("%s: ranked for a sample of %s", run.name, warm.sample)
    groups = breakdown(warm, dataset, ks[0])
    popular = ranking.evaluate_popularity()
    looks = count_looks(experiment.name, find_evaluated(None, dataset.fingerprint), run.params)
    remember_popularity(
        run, {f"test/{name}": value for name, value in popular.evaluation.summary.items()}
    )
    card = model_card(
        run.id, run.tags, run.metrics, experiment, dataset, warm, popular, metrics, groups, looks
    )
    run.log_text(card, CARD)
    per_user = warm.evaluation.per_user
    per_user.insert(0, "user", dataset.users["user"].to_numpy()[warm.users])
    tables = {PER_USER: per_user, LISTS: recommendations(warm, dataset)}
    checksums = {name: run.log_parquet(table, name) for name, table in tables.items()}
    run.set_tags({EVIDENCE: evidence_tag(dataset.n_items, checksums)})
    run.log_table(groups, BREAKDOWN)
    values = (f"{name} {metrics[f'test/{name}_at_{ks[0]}']:.4f}" for name in HEADLINE)
    log.info("%s on the test, at %d: %s", run.name, ks[0], ", ".join(values))
