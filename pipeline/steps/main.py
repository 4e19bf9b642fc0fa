"""main: all of it: prepare, train and evaluate every experiment of a suite, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.cluster.connection import Placing, here
from pipeline.config import read_suite
from pipeline.console import timed
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.evaluation.prepared import prepare_and_tell
from pipeline.steps.compare import compare
from pipeline.steps.ending import end_of_main
from pipeline.steps.evaluate import evaluate
from pipeline.steps.inputs import Inputs
from pipeline.steps.placed import Task, do_elsewhere
from pipeline.steps.prepare import prepare
from pipeline.steps.train import train
from pipeline.tracking.datasets import dataset_tags, log_dataset, settled
from pipeline.tracking.store import delivering
from pipeline.tracking.track import track


def main(
    dataset: str,
    suite: str,
    overrides: Mapping[str, Any],
    reading: Reading = AS_IT_IS,
    *,
    reuse: bool = True,
    placed: Placing = here,
) -> None:
    """Run a suite under one parent run and compare its models.

    ``placed`` is the cluster on which models are trained and evaluated, as ``launcher`` has it.
    """
    experiments = read_suite(suite, overrides)
    first = experiments[0]
    own = {module for each in experiments for module in each.own_modules}
    with placed(own) as cluster, delivering():
        with track(f"main {suite}", {"step": "main", "model": "none"}) as run:
            run.log_params({"suite": suite, **overrides})
            prepared = prepare(
                dataset, first.split, first.windows, reading, reuse=reuse, parent=run
            )
            run.log_params(settled({"dataset": dataset}, prepared.dataset))
            run.set_tags(dataset_tags(prepared.dataset))
            log_dataset(run, prepared, "main")
            tasks = []
            for experiment in experiments:
                if experiment.split != first.split:
                    split, windows = experiment.split, experiment.windows
                    prepared = prepare_and_tell(dataset, split, reading, windows, reuse=reuse)
                inputs = Inputs(experiment, dataset, reading, prepared.dataset.fingerprint)
                tasks.append(Task(inputs, prepared, experiment.title(overrides)))
            if cluster is not None:
                do_elsewhere(cluster, tasks, run, reuse=reuse)
                reuse = True  # of what has just been done
            run_ids = []
            for inputs, prepared, title in tasks:
                with timed(f"{inputs.experiment.name} done"):
                    trained = train(inputs, prepared, reuse=reuse, parent=run, title=title)
                    evaluate(trained, prepared, reuse=reuse)
                run_ids.append(trained.run.id)
            metric = first.selection_metric
            run.describe(compare(run_ids=run_ids, metric=metric, parent=run, report=True))
        end_of_main(run, len(run_ids), dataset, first.k[0])
