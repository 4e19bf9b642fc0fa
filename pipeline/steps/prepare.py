"""prepare: a dataset, validated, split in time, stored under its fingerprint, as a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.data.dataset import Dataset
from pipeline.data.prepared import META, TABLES, Prepared
from pipeline.data.prepared import prepare as prepare_data
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.split_settings import Quantile, SplitSettings
from pipeline.data.titles import digest
from pipeline.evaluation.prepared import prepare_and_tell, window_sizes
from pipeline.outbox.contents import Contents
from pipeline.steps.identity import step_key
from pipeline.tracking.datasets import dataset_tags, log_dataset
from pipeline.tracking.runs import NOTE, Run
from pipeline.tracking.search import STEP_KEY, find_finished
from pipeline.tracking.track import track

DATASET = "dataset"  # the artifact

log = logging.getLogger("pipeline")


class PrepareSettings(SplitSettings):
    """The split, and the validation windows to look at."""

    windows: tuple[Quantile, ...] = (0.85,)
    """Quantiles of the training part at which windows are cut, to be counted and drawn."""

    @property
    def split(self) -> SplitSettings:
        """The split alone."""
        return SplitSettings(**self.model_dump(exclude={"windows"}))


def prepare(
    dataset: str,
    split: SplitSettings,
    windows: Sequence[float],
    reading: Reading = AS_IT_IS,
    *,
    reuse: bool = True,
    parent: Run | None = None,
) -> Prepared:
    """Prepare a dataset and log it: tables, statistics, plots, fingerprint."""
    prepared = prepare_and_tell(dataset, split, reading, windows, reuse=reuse)
    inputs = {"fingerprint": prepared.dataset.fingerprint, "windows": list(windows)}
    inputs |= title_key(prepared.dataset)
    key = step_key("prepare", inputs, [prepare_data])
    must = _must_hold(prepared, reading, split)
    earlier = find_finished(key, parent, must) if reuse else None
    if earlier is not None:
        log.info("prepare: reused run %s", earlier.id)
        return prepared
    tags = {"step": "prepare", "model": "none", **dataset_tags(prepared.dataset)}
    with track(f"prepare {prepared.dataset.name}", tags, parent=parent) as run:
        run.require(must)
        _log_prepared(run, prepared, windows)
        made_by = prepared.dataset.split.model_dump()
        run.log_params({"dataset": dataset, **reading.model_dump(), **made_by})
        run.set_tags({STEP_KEY: key})
    return prepared


def _must_hold(prepared: Prepared, reading: Reading, split: SplitSettings) -> Contents:
    """What a run must hold before it is finished, and to be reused."""
    counts = [*_numbers(prepared.dataset), *prepared.counts]
    return Contents.named(
        params=["dataset", *reading.model_dump(), *split.model_dump()],
        metrics=[f"data/{name}" for name in counts],
        tags=[NOTE, STEP_KEY],
        datasets=[prepared.dataset.fingerprint],
        files=[f"{DATASET}/{name}" for name in (META, *(f"{table}.parquet" for table in TABLES))],
    )


def title_key(dataset: Dataset) -> dict[str, str]:
    """What a run depends on beside the fingerprint: titles laid over the dataset, if any."""
    laid = digest(dataset)
    return {} if laid is None else {"titles": laid}


def _numbers(dataset: Dataset) -> dict[str, float]:
    facts = dataset.statistics.items()
    return {name: value for name, value in facts if not isinstance(value, str)}


def _log_prepared(run: Run, prepared: Prepared, windows: Sequence[float]) -> None:
    dataset = prepared.dataset
    log_dataset(run, prepared, "preparation")
    run.log_file(prepared.folder, DATASET)
    run.log_metrics({f"data/{name}": value for name, value in _numbers(dataset).items()})
    run.log_metrics({f"data/{name}": value for name, value in prepared.counts.items()})
    sizes = window_sizes(dataset, windows)
    for name, size in sizes.items():
        counts = {"users": size.users, "interactions": size.interactions}
        run.log_metrics({f"data/{name}_{what}": count for what, count in counts.items()})
    from pipeline.data.figures import dataset_figures  # and matplotlib: most find it prepared

    for name, figure in dataset_figures(dataset, windows).items():
        run.log_figure(figure, f"figures/{name}")
    facts = {**dataset.statistics, **prepared.counts, **sizes}
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items()]
    notes = [f"**Note:** {note}\n" for note in prepared.notes]
    run.describe("\n".join([*notes, f"| {dataset.name} | |", "|---|---|", *rows]))
