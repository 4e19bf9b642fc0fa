"""What a command says last: what came out beside popularity, what to mind, and what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.console import console, house_table, say, show_line, show_next
from pipeline.evaluation.metrics import HEADLINE, METRICS
from pipeline.evaluation.names import at
from pipeline.evaluation.warnings import WARNING_NOTE
from pipeline.outbox.delivery import shown_uri
from pipeline.steps.notes import POPULAR, popularity_of
from pipeline.steps.report import show_report
from pipeline.tracking.hints import command
from pipeline.tracking.links import how_to_see, leaderboard_address, run_address, studies_address
from pipeline.tracking.runs import Run
from pipeline.tracking.views import current_experiment, show_experiment


def end_of_train(run: Run, k: int) -> None:
    """Validation beside popularity, and how to test the model."""
    _title(run, "validation" if _has(run, "val") else "fitted, not validated", k)
    _show_metrics(run, run.tags["experiment"], "val", k)
    _warn(run)
    _place(run)
    show_next([command(f"evaluate --run_id {run.id}")])


def end_of_evaluate(run: Run, k: int) -> None:
    """The test beside popularity, and what to do with a model that is tested."""
    _title(run, "test", k)
    _show_metrics(run, run.tags["experiment"], "test", k)
    _warn(run)
    _place(run)
    _place_leaderboard(run, k)
    show_next(
        [
            command("compare"),
            command(f"recommend --run_id {run.id} --output lists.parquet"),
            command(f"evaluate --run_id {run.id} --register {run.tags['experiment']}"),
        ]
    )


def end_of_compare(k: int) -> None:
    """Where all models of the experiment in use are."""
    _all_models(current_experiment(k))


def end_of_tune(
    study: Run, chosen: str, refitted: Sequence[Run], notes: Sequence[str], report: Path
) -> None:
    """What a study has chosen, the test of that, and how to go on."""
    k = min(int(name.rpartition("_")[2]) for name in study.metrics if name.startswith("test/"))
    _title(study, "test of what was chosen", k)
    say(f"Chosen: {chosen}")
    seeds = f"{len(refitted)} seeds" if len(refitted) > 1 else "1 seed"
    _show_metrics(study, f"mean of {seeds}", "test", k, popularity_of(refitted[0]))
    for note in notes:
        say(f"Warning: {note}", "yellow")
    _warn(refitted[0])
    _place(study)
    show_report(report)
    _place_leaderboard(study, k)
    show_line(f"All trials: {how_to_see(studies_address(study.experiment_id))}")
    ids = ",".join(run.id for run in refitted)
    show_next(
        [
            command(f"compare --run_ids {ids}"),
            command(f"recommend --run_id {refitted[0].id} --output lists.parquet"),
        ]
    )


def end_of_main(run: Run, models: int, dataset: str, k: int) -> None:
    """What was made, where, and three commands to type next."""
    data = "" if dataset == "auto" else f" --dataset {shlex.quote(dataset)}"
    headline = f"\n{run.name}: {models} models, trained, tested and compared"
    console.print(headline, style="bold", markup=False)
    show_line(f"Runs and models: {shown_uri()}")
    _place(run)
    _place_leaderboard(run, k)
    show_next(
        [
            command("ui"),
            command(f"train --model ncf --embedding_dim 16{data}"),
            command(f"tune --model ease --n_trials 10{data}"),
        ]
    )


def _place_leaderboard(run: Run, k: int) -> None:
    """Where all models of the run's experiment are, brought up to date."""
    show_experiment(run.experiment_id, k)
    _all_models(run.experiment_id)


def _all_models(experiment_id: str) -> None:
    show_line(f"All models: {how_to_see(leaderboard_address(experiment_id))}")


def _title(run: Run, part: str, k: int) -> None:
    console.print(
        f"\n{run.name} on {run.tags.get('dataset')}: {part}, at {k}", style="bold", markup=False
    )


def _show_metrics(
    run: Run, name: str, part: str, k: int, popular: Mapping[str, float] | None = None
) -> None:
    """A row for the run, and one for the most popular items where that is known."""
    shown = [metric for metric in METRICS if metric.name in HEADLINE]
    keys = {metric.heading: f"{part}/{at(metric, k)}" for metric in shown}
    keys = {heading: key for heading, key in keys.items() if key in run.metrics}
    if not keys:
        return
    popular = popularity_of(run) if popular is None else popular
    table = house_table("", *keys)
    table.add_row(name, *(f"{run.metrics[key]:.4f}" for key in keys.values()))
    if popular and run.tags.get("model") != POPULAR:
        row = (f"{popular[key]:.4f}" if key in popular else "" for key in keys.values())
        table.add_row(POPULAR, *row)
    console.print(table)


def _has(run: Run, part: str) -> bool:
    return any(name.startswith(f"{part}/") for name in run.metrics)


def _warn(run: Run) -> None:
    note = run.tags.get(WARNING_NOTE)
    if note:
        say(f"Warning: {note}", "yellow")


def _place(run: Run) -> None:
    say(f"Run: {run.id}")
    show_line(f"See it: {how_to_see(run_address(run))}")
