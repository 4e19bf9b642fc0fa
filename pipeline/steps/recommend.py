"""recommend: lists for all users of a model, or for those of a file, written as they come.

Users are read, answered and written in blocks, so that memory does not grow with their number.
The lists are those that ``evaluate`` computed and that the served model gives.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.cluster.connection import Placing, here
from pipeline.cluster.nodes import Cluster
from pipeline.cluster.shares import share
from pipeline.console import ProgressBar
from pipeline.disk import sync, unfinished
from pipeline.errors import UserError
from pipeline.evaluation.candidates import RECALL, Index, say_cost_of_ranking
from pipeline.serving.answers import ANSWER, Answers, Request
from pipeline.serving.request_files import open_requests
from pipeline.steps.inputs import Inputs
from pipeline.tracking.elsewhere import environment_elsewhere
from pipeline.tracking.models import fetch_model
from pipeline.tracking.runs import Run
from pipeline.tracking.store import delivering
from pipeline.tuning.workers import threads

How = tuple[Index, int, int, float]
"""How lists are found, for how many users, their length, and the recall that an index needs."""

ALL = "all"
ROWS = 65_536  # of a block, and so of a row group
TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
SCHEMA = pa.schema([(name, TYPES[kind]) for name, kind in ANSWER.items()])
UNQUOTED = pa_csv.WriteOptions(quoting_style="needed")
WRITERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": lambda path: pq.ParquetWriter(path, SCHEMA),
    ".csv": lambda path: pa_csv.CSVWriter(path, SCHEMA, write_options=UNQUOTED),
}
FALLBACKS = {"": "by the model", "folded in": "folded in", "popularity": "what is popular"}

log = logging.getLogger("pipeline")


def recommend(
    run: Run,
    users: str,
    k: int,
    output: Path,
    *,
    overwrite: bool = False,
    index: Index = "auto",
    recall: float = RECALL,
    placed: Placing = here,
) -> Counter[str]:
    """Write lists of at most ``k`` items for the users of a run's model, or of a file.

    ``users`` is "all" or the path of such a file as ``open_requests`` takes. ``output``, CSV or
    Parquet, has the columns of ``Answers.answer`` and is there only when it is whole. ``index`` and
    ``recall`` are as in ``index_of``; what an index finds of the exact lists is logged on the run.
    ``placed`` is the cluster whose nodes answer, a block at a time, each by an index of its own.

    Returns:
        How many users were answered by which fallback.

    Raises:
        UserError: k is below 1, the run has no model, or none that the index could be made of, a
            file of users is not what it should be, or the output is there already, is of another
            kind, or cannot be written.
    """
    if k < 1:
        raise UserError(f"k is {k}: expected a length of the lists of at least 1.")
    if users != ALL and output.resolve() == Path(users).resolve():
        raise UserError(f"{output}: holds the users. Give the lists another name.")
    own = [] if placed is here else Inputs.of(run).experiment.own_modules
    with placed(own) as cluster, _whole(output, overwrite) as new:
        asked = None if users == ALL else open_requests(Path(users))
        answers = Answers(fetch_model(run))
        k = min(k, len(answers.catalogue))
        size = max(1, ROWS // k)
        blocks = _everybody(answers, size) if asked is None else asked.blocks(size)
        total = len(answers.users) if asked is None else asked.count
        how = (index, total, k, recall)
        _choose(answers, run, *how)
        tally = Counter[str]()
        answered = (
            (answers.answer(requests, k) for requests in blocks)
            if cluster is None
            else _elsewhere(cluster, run, blocks, how)
        )
        with (
            WRITERS[output.suffix.lower()](new) as writer,
            ProgressBar("recommend", total, "user") as progress,
        ):
            done = 0
            for answer in answered:
                writer.write_table(pa.Table.from_pandas(answer, SCHEMA, preserve_index=False))
                firsts = answer[answer["rank"] <= 1]  # a request has one: rank 0 is an empty list
                tally.update(firsts["fallback"])
                done += len(firsts)
                progress.done(done, output.name)
    counts = (f"{count:,} {FALLBACKS[fallback]}" for fallback, count in tally.most_common())
    log.info("%s: lists of %s users: %s", output, f"{done:,}", ", ".join(counts))
    return tally


def _choose(answers: Answers, run: Run, index: Index, users: int, k: int, recall: float) -> None:
    """Lists by an index or exactly; either is said where it takes its time."""
    answers.index_items(index, users, k, recall)
    if answers.index is None:
        say_cost_of_ranking(answers.recommender, users, len(answers.catalogue))
        return
    with delivering():
        run.log_metrics({f"recommend/index_recall_at_{k}": answers.index.recall})


def _everybody(answers: Answers, size: int) -> Iterator[list[Request]]:
    for start in range(0, len(answers.users), size):
        ids = answers.users[start : start + size]
        yield [Request(user, (), (), None) for user in ids.tolist()]


def _elsewhere(
    cluster: Cluster, run: Run, blocks: Iterator[list[Request]], how: How
) -> Iterator[pd.DataFrame]:
    part = share(cluster.nodes, on_gpu=Inputs.of(run).wants_gpu)
    log.info("%s.", part.in_words())
    environment = {**environment_elsewhere(cluster.others), **threads(part.cpus)}
    return cluster.map(part, _answer, blocks, environment, run.id, how)


def _answer(requests: list[Request], run_id: str, how: How) -> pd.DataFrame:
    """A block's answer, on a node."""
    _, _, k, _ = how
    return _answers(run_id, how).answer(requests, k)


@cache
def _answers(run_id: str, how: How) -> Answers:
    """The model of a run, fetched once by each process of a node, and its index if there is one."""
    answers = Answers(fetch_model(Run(run_id)))
    answers.index_items(*how)
    return answers


@contextmanager
def _whole(output: Path, overwrite: bool) -> Iterator[Path]:
    """A new, empty file beside ``output`` that takes its name when all has been written.

    Raises:
        UserError: ``output`` is there already or of no known kind, or cannot be written.
    """
    if output.suffix.lower() not in WRITERS:
        raise UserError(f"{output}: expected a file to write that ends in {' or '.join(WRITERS)}.")
    _refuse_what_is_there(output, overwrite)
    try:
        with unfinished(output.parent, output.name) as partial:
            partial.open("xb").close()
            yield partial
            sync(partial)
            _refuse_what_is_there(output, overwrite)  # it may have come meanwhile
            partial.replace(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error}).") from None


def _refuse_what_is_there(output: Path, overwrite: bool) -> None:
    if output.is_dir():
        raise UserError(f"{output}: is a folder. Expected the name of a file to write.")
    if os.path.lexists(output) and not overwrite:
        raise UserError(
            f"{output}: is there already. Give another name, or --overwrite true to replace it."
        )
