"""Everything of one tracking store copied to another: to a team's server, say.

MLflow 3.17 has ``mlflow migrate-filestore``, which makes a SQLite file of a folder of files, and
nothing between databases and servers. mlflow-export-import 1.2.0, the package for that, is of 2023:
it knows no logged models, so that an MLflow 3 model is lost; it creates runs now and ends them now,
so that start and end are lost; and each import makes every run again. So it is done here, with
MLflow's own client alone, and between any two of SQLite, another database, and a server.

    experiments   by name; one that the target has takes the runs
    runs          all of them, first empty, so that links find them whatever their order
    models        files, tags, params; then what runs hold, with the points that belong to models
    registry      versions in their order, aliases

Copies have ids of their own, for a server gives them: links between runs, models and versions, and
ids in tags and in ``MLmodel``, are those of the copies; params and other files are byte for byte as
they were. ``tags.migrated_from = 'ID'`` finds the copy of a run. Doing it again adds what is new,
completes what was interrupted and doubles nothing; a copy that was deleted is made again. What a
run was given at the target is kept, unless the source has changed since and has it, too.

Not copied: what is deleted at the source, when a model or version was created, prompts, traces and
evaluation datasets. MLflow keeps an infinite value as the largest finite one, and so does this.
A file that is replaced by one of the same size, while nothing else of its run changes, is not seen.
A database as target keeps files in ./mlruns of this machine: a team's target is its server.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.console import ProgressBar
from pipeline.errors import UserError
from pipeline.ops.migration.artifacts import UnreadableError
from pipeline.ops.migration.models import copy_logged_models, count_links
from pipeline.ops.migration.registry import copy_registered_models
from pipeline.ops.migration.runs import copy_run, open_runs
from pipeline.ops.migration.stores import first_line, in_use, is_same, open_source, open_target
from pipeline.ops.migration.transfer import MIGRATED_FROM, Counts, Transfer

KINDS = (
    "experiments", "runs", "params", "tags", "metric points", "datasets", "artifacts", "bytes",
    "logged models", "model metrics", "model links", "registered models", "versions", "aliases",
)  # fmt: skip


@dataclass(frozen=True)
class Migration:
    """What the source has of each of ``KINDS``, and how much of it the target had and has."""

    source: Counts
    before: Counts
    now: Counts
    problems: list[str]
    """What could not be copied, and why."""

    @property
    def is_whole(self) -> bool:
        """Whether everything is there."""
        return not self.problems and self.source == self.now


def migrate(source: str, target: str) -> Migration:
    """Copy all that the target has not from one tracking store to another, and compare them.

    Both are URLs: of SQLite, of another database, or of a server (whose credentials are taken from
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD). What cannot be copied, as files that are
    not where the source says, is among the problems; the rest is copied.

    Raises:
        UserError: source and target are one, one of them cannot be used, or it is lost on the way.
    """
    before, after = open_source(source), open_target(target)
    if is_same(before, after):
        raise UserError(f"{before.shown} and {after.shown} are the same store: nothing to migrate.")
    transfer = Transfer(before, after)
    try:
        # The registry of a database looks for a version's model in the store in use.
        with in_use(target):
            _find_copies(transfer)
            _copy(transfer)
    except (MlflowException, SQLAlchemyError, UnreadableError, OSError) as error:
        raise UserError(
            f"The migration from {before.shown} to {after.shown} was broken off: "
            f"{first_line(error)}. The same command goes on with it."
        ) from error
    return Migration(transfer.wanted, transfer.before, transfer.now, transfer.problems)


def _copy(transfer: Transfer) -> None:
    experiments = _copy_experiments(transfer)
    runs, new = open_runs(transfer, experiments)
    models, linked = copy_logged_models(transfer, experiments)
    with ProgressBar("migrate", len(runs), "run") as bar:
        for number, run in enumerate(runs, start=1):
            copy_run(transfer, run, is_new=run.run_id in new, linked=linked)
            bar.done(number, str(run.run_name))
    count_links(transfer, models)
    copy_registered_models(transfer)


def _find_copies(transfer: Transfer) -> None:
    """Note which runs and logged models of the target are copies."""
    ids = [each.experiment_id for each in transfer.target.experiments()]
    for run in transfer.target.runs(ids, f"tags.{MIGRATED_FROM} != ''"):
        transfer.add(run.data.tags[MIGRATED_FROM], str(run.info.run_id))
    for model in transfer.target.logged_models(ids):
        if MIGRATED_FROM in model.tags:
            transfer.add(model.tags[MIGRATED_FROM], model.model_id)


def _copy_experiments(transfer: Transfer) -> dict[str, str]:
    """The target's ids of experiments, by the source's."""
    client, ids = transfer.target.client, {}
    for each in transfer.source.experiments():
        tags = transfer.tags(each.tags)
        transfer.wanted += Counter({"experiments": 1, "tags": len(tags)})
        with transfer.trying(f"Experiment {each.name}"):
            there = client.get_experiment_by_name(each.name)
            if there is None:
                # Without a location: where files are kept is for the target to say.
                ids[each.experiment_id] = client.create_experiment(each.name, tags=tags)
            elif there.lifecycle_stage == "deleted":
                transfer.problems.append(
                    f"Experiment {each.name}: the target has deleted one of this name. Restore it "
                    f"there (mlflow experiments restore), or rename it."
                )
                continue
            else:
                ids[each.experiment_id] = there.experiment_id
                known = tags.keys() & there.tags.keys()
                transfer.before += Counter({"experiments": 1, "tags": len(known)})
                for key in tags.keys() - known:
                    client.set_experiment_tag(there.experiment_id, key, tags[key])
            transfer.now += Counter({"experiments": 1, "tags": len(tags)})
    return ids
