"""tune's other half: a worker, which joins a study and runs trials, each as a child run."""

from __future__ import annotations

import logging
import os
import platform
import signal
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import Trial

from pipeline.data.prepared import receive
from pipeline.evaluation.fitting import experiment_windows
from pipeline.evaluation.validation import Validation
from pipeline.space import short
from pipeline.tracking.datasets import dataset_tags
from pipeline.tracking.links import run_address
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import STUDY, track_trial
from pipeline.training.checkpoint import EpochMetrics
from pipeline.tuning.dashboard import note_trial
from pipeline.tuning.objective import EPOCHS, configuration, judge, repeat
from pipeline.tuning.plan import Plan
from pipeline.tuning.study import DATA, PARENT_RUN, STOPPED, join_study, stored_plan
from pipeline.tuning.suggestions import distributions, suggest
from pipeline.tuning.work import work
from pipeline.tuning.workers import own_gpu

LETTERS = 80  # of a trial's fields in its title
SAME = "same_as_trial"  # an earlier trial that tried the same
DATASET = "dataset"  # the parent's artifact that workers on other hosts take the data from

log = logging.getLogger("pipeline")


def join(storage: str, study_name: str, number: int | None) -> None:
    """Run trials of a study until its budget is taken.

    ``number`` is what a launcher calls a worker of its own; one that joins by itself has none, and
    takes a GPU that no other such worker has.

    Raises:
        UserError: there is no such study, or the data or the parent run cannot be reached.
    """
    alone = number is None
    if number is None:  # one that no other worker has
        number = zlib.crc32(f"{platform.node()} {os.getpid()}".encode())
    study, plan = join_study(storage, study_name, number)
    log.info("Worker of study %s: %d trials in all", study_name, plan.budget)
    wanted = plan.experiment.device if alone else None
    with own_gpu(wanted, Path(gettempdir()) / "ncf-pipeline-gpus"):
        work(study, _Trials(study, plan), _stopping_on_ctrl_c())
    stopped = study.user_attrs[STOPPED]
    log.info("Worker of study %s ends%s", study_name, f": {stopped}" if stopped else "")


class _Trials:
    """Runs a trial; what does not depend on the trial is made once."""

    def __init__(self, study: Study, plan: Plan) -> None:
        self.study, self.plan = study, plan
        self.parent = Run(study.user_attrs[PARENT_RUN])
        dataset = receive(
            study.user_attrs[DATA]["fingerprint"],
            lambda folder: self.parent.fetch(DATASET, folder),
        ).dataset
        self.windows = experiment_windows(plan.experiment, dataset)
        self.tags = {
            "step": "trial", "model": plan.experiment.model, "experiment": plan.experiment.name,
            STUDY: study.study_name, **dataset_tags(dataset),
        }  # fmt: skip

    def __call__(self, trial: Trial) -> float | Sequence[float]:
        name = f"trial {trial.number}"
        params = suggest(trial, distributions(stored_plan(self.study)))
        text = " ".join(f"{field}={short(value)}" for field, value in params.items())
        title = f"{name}: {text}" if len(text) <= LETTERS else f"{name}: {text[:LETTERS]}..."
        with (
            track_trial(
                title, self.tags, self.parent, trial.number, pruned=optuna.TrialPruned
            ) as run,
            ExitStack() as after_means,
        ):
            run.log_params(params)
            note_trial(self.study, trial, f"[{title}]({run_address(run)}) in MLflow's UI")
            earlier = repeat(trial, self.study)
            if earlier is not None:
                run.set_tags({SAME: str(earlier.number)})
                means, epochs = earlier.user_attrs, earlier.user_attrs.get(EPOCHS)
            else:
                validation = self._judge(trial, params, run, after_means)
                means, epochs = validation.mean, validation.epochs
            metrics = {f"val/{key}": value for key, value in means.items() if "_at_" in key}
            run.log_metrics(metrics | ({"val/epochs": epochs} if epochs else {}), epochs or 0)
        values = [float(means[metric]) for metric in self.plan.objectives]
        log.info("%s: %s", name, ", ".join(f"{value:.4f}" for value in values))
        return values

    def _judge(
        self, trial: Trial, params: dict[str, Any], run: Run, after_means: ExitStack
    ) -> Validation:
        def watch(fit: str, number: int, record: EpochMetrics) -> None:
            metrics = {f"val/{fit}/{key}": record[key] for key in record}
            if number:
                run.log_metrics(metrics, number)
            else:  # no epochs: MLflow's pages begin with what is logged first, the means
                after_means.callback(run.log_metrics, metrics)

        experiment = configuration(self.plan, params, f"trial {trial.number}")
        return judge(trial, self.plan, experiment, self.windows, watch)


def _stopping_on_ctrl_c() -> Callable[[], bool]:
    """Whether Ctrl-C was pressed: the first one lets the running trial finish."""
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)
        log.warning("The running trial is finished; Ctrl-C again ends it at once.")

    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    return lambda: bool(asked)
