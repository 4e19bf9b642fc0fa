"""prepare: a dataset, validated, split in time, stored under its fingerprint, as a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pipeline.data.dataset import CUT_NOTE, Dataset
from pipeline.data.prepared import META, TABLES, Prepared
from pipeline.data.prepared import prepare as prepare_data
from pipeline.data.reading import AS_IT_IS, Reading
from pipeline.data.sizes import ENOUGH, Size
from pipeline.data.split import Quantile, SplitSettings
from pipeline.data.titles import digest
from pipeline.evaluation.significance import smallest_difference
from pipeline.evaluation.validation import window_name
from pipeline.steps.identity import step_key
from pipeline.tracking.contents import Contents
from pipeline.tracking.datasets import log_dataset
from pipeline.tracking.runs import NOTE, STEP_KEY, Run, find_finished
from pipeline.tracking.track import track

DATASET = "dataset"  # the artifact
TEST = "the test"  # among the sizes, beside the windows' names
USUAL_SPREAD = 0.15
"""Standard deviation over users of the difference in NDCG between two models: the median pair on
Last.fm has .14, most are below .19."""

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
    prepared = find_prepared(dataset, split, reading, windows, reuse=reuse)
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


def find_prepared(
    dataset: str,
    split: SplitSettings,
    reading: Reading = AS_IT_IS,
    windows: Sequence[float] = (),
    *,
    reuse: bool = True,
) -> Prepared:
    """Prepare a dataset, or take it as it was prepared, and say what there is to know.

    Raises:
        UserError: as ``prepare`` of the data; one of the ``windows`` that will be used has nobody
            to be evaluated, or two are the same.
    """
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
    sizes = window_sizes(prepared.dataset, windows)
    tell_sizes({TEST: Size.of(prepared.dataset), **sizes})
    return prepared


def window_sizes(dataset: Dataset, windows: Sequence[float]) -> dict[str, Size]:
    """How much each validation window has to tell, by name.

    Raises:
        UserError: a window has nobody to be evaluated, or two are the same.
    """
    made = dataset.windows(windows)
    for window in made.values():
        if CUT_NOTE in window.notes:
            log.warning("%s", window.notes[CUT_NOTE])
    return {window_name(quantile): Size.of(window) for quantile, window in made.items()}


def tell_sizes(sizes: Mapping[str, Size]) -> None:
    """Say how large a test and windows are, and warn where users are too few to tell models apart.

    By name, as in ``window_sizes``. What could be found is a guess here, from the spread between
    users that is usual.
    """
    for name, size in sizes.items():
        log.info("%s: %s", name, size)
    few = {name: size for name, size in sizes.items() if size.users < ENOUGH}
    if few:
        told = "; ".join(
            f"{name} has {size}" + (f" ({size.larger})" if size.larger else "")
            for name, size in few.items()
        )
        log.warning("With less than %d users models can hardly be told apart: %s", ENOUGH, told)
    if TEST in few and (users := few[TEST].users) > 1:
        smallest = smallest_difference(USUAL_SPREAD, users)
        log.warning(
            "In a test of %d users a difference in NDCG below about %.2f cannot be expected to be "
            "found; compare tells it from the lists.", users, smallest,
        )  # fmt: skip


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
        **dataset.notes,
    }


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
