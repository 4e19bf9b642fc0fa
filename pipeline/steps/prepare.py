"""prepare: a dataset, validated, split in time, stored under its fingerprint, as a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.data.dataset import Dataset
from pipeline.data.prepared import Prepared
from pipeline.data.prepared import prepare as prepare_data
from pipeline.data.reading import AS_IT_IS, Reading
from pipeline.data.split import Quantile, SplitSettings
from pipeline.data.titles import digest
from pipeline.steps.identity import step_key
from pipeline.tracking.datasets import log_dataset
from pipeline.tracking.runs import STEP_KEY, Run, find_finished
from pipeline.tracking.track import track

log = logging.getLogger("pipeline")


class PrepareSettings(SplitSettings):
    """The split, and the windows that the plots show."""

    windows: tuple[Quantile, ...] = (0.85,)
    """Quantiles of the training part to mark in the plot of interactions over time."""

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
    prepared = find_prepared(dataset, split, reading, reuse=reuse)
    inputs = {"fingerprint": prepared.dataset.fingerprint, "windows": list(windows)}
    inputs |= title_key(prepared.dataset)
    key = step_key("prepare", inputs)
    earlier = find_finished(key, parent) if reuse else None
    if earlier is not None:
        log.info("prepare: reused run %s", earlier.id)
        return prepared
    tags = {"step": "prepare", "model": "none", **dataset_tags(prepared.dataset)}
    with track(f"prepare {prepared.dataset.name}", tags, parent=parent) as run:
        _log_prepared(run, prepared, windows)
        run.log_params({"dataset": dataset, **reading.model_dump(), **split.model_dump()})
        run.set_tags({STEP_KEY: key})
    return prepared


def find_prepared(
    dataset: str, split: SplitSettings, reading: Reading = AS_IT_IS, *, reuse: bool = True
) -> Prepared:
    """Prepare a dataset, or take it as it was prepared, and say what there is to know."""
    prepared = prepare_data(dataset, split, reading, reuse=reuse)
    for note in prepared.notes:
        log.warning("%s", note)
    for what, count in prepared.counts.items():
        if count and what != "rows_read":
            log.warning("%s: %s", what.replace("_", " "), f"{count:,}")
    facts = prepared.dataset.statistics
    log.info(
        "%s %s (%s): %s training interactions, %s users, %s items; %s held out, %s users",
        "Found prepared" if prepared.reused else "Prepared",
        prepared.dataset.name,
        prepared.dataset.fingerprint,
        *(
            f"{facts[name]:,}"
            for name in (
                "train_interactions", "train_users", "catalogue_items",
                "test_interactions", "test_users",
            )
        ),
    )  # fmt: skip
    if prepared.dataset.values_taken != "ratings":
        log.info("%s: %s", prepared.dataset.name, prepared.dataset.values_explained)
    return prepared


def title_key(dataset: Dataset) -> dict[str, str]:
    """What a run depends on beside the fingerprint: titles laid over the dataset, if any."""
    laid = digest(dataset)
    return {} if laid is None else {"titles": laid}


def dataset_tags(dataset: Dataset) -> dict[str, str]:
    """The tags by which runs on the same data are known."""
    return {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "split": dataset.protocol,
    }


def _log_prepared(run: Run, prepared: Prepared, windows: Sequence[float]) -> None:
    dataset = prepared.dataset
    log_dataset(run, prepared, "preparation")
    run.log_file(prepared.folder, "dataset")
    numbers = {
        name: value for name, value in dataset.statistics.items() if not isinstance(value, str)
    }
    run.log_metrics({f"data/{name}": value for name, value in numbers.items()})
    run.log_metrics({f"data/{name}": value for name, value in prepared.counts.items()})
    from pipeline.data.figures import dataset_figures  # and matplotlib: most find it prepared

    for name, figure in dataset_figures(dataset, windows).items():
        run.log_figure(figure, f"figures/{name}")
    facts = {**dataset.statistics, **prepared.counts}
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items()]
    notes = [f"**Note:** {note}\n" for note in prepared.notes]
    run.describe("\n".join([*notes, f"| {dataset.name} | |", "|---|---|", *rows]))
