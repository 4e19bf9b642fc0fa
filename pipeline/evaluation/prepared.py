"""A dataset made ready to be evaluated on, and what the sizes of its test and windows can tell."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pipeline.console import waiting
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import Prepared
from pipeline.data.prepared import prepare as prepare_data
from pipeline.data.raw.reading import AS_IT_IS, Reading
from pipeline.data.sizes import ENOUGH, Size
from pipeline.data.split import CUT_NOTE
from pipeline.data.split_settings import SplitSettings
from pipeline.data.stored import StoredDataset
from pipeline.data.windows import windows_of
from pipeline.evaluation.significance import smallest_difference
from pipeline.evaluation.validation import window_name

TEST = "the test"  # among the sizes, beside the windows' names
USUAL_SPREAD = 0.15
"""Standard deviation over users of the difference in NDCG between two models: the median pair on
Last.fm has .14, most are below .19."""

log = logging.getLogger("pipeline")


def prepare_and_tell(
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
    with waiting(f"Preparing {dataset}"):
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

    Nothing of a dataset that is on disk: its windows are first made when a model is validated.

    Raises:
        UserError: a window has nobody to be evaluated, or two are the same.
    """
    if isinstance(dataset, StoredDataset):
        return {}
    made = windows_of(dataset, windows)
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
        tests = "; ".join(
            f"{name} has {size}" + (f" ({size.larger})" if size.larger else "")
            for name, size in few.items()
        )
        log.warning("Less than %d users can hardly distinguish models: %s", ENOUGH, tests)
    if TEST in few and (users := few[TEST].users) > 1:
        smallest = smallest_difference(USUAL_SPREAD, users)
        log.warning(
            "In a test of %d users a difference in NDCG below about %.2f cannot be expected to be "
            "found; compare tells it from the lists.", users, smallest,
        )  # fmt: skip
