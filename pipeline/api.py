"""The whole method as functions, without MLflow: load, fit, evaluate, compare, recommend.

    from pipeline.api import compare, evaluate, fit, load

    films = load("ml-1m")
    tests = [evaluate(fit(model, films)) for model in ("most_popular", "ease", "ncf")]
    print(compare(tests, baseline="ease"))

They do what the commands of the same names do, with the same settings and the same numbers, and
keep nothing but the prepared data (``data/prepared``). Each imports what it needs when it is
called. What is wrong with data or settings is a ``UserError``, a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.compare.result import Comparison
    from pipeline.config import Experiment
    from pipeline.data.dataset import Dataset
    from pipeline.evaluation.validation import Validation
    from pipeline.evaluation.warnings import Warned
    from pipeline.models.base import Recommender

WIDTH = 120  # characters of a printed comparison


@dataclass(frozen=True)
class Fitted:
    """A model that has learned from a dataset."""

    experiment: Experiment
    dataset: Dataset
    recommender: Recommender
    validation: Validation
    """What the windows inside the training part found."""
    warnings: list[Warned]
    """Why it is not the personal model that it is meant to be; empty where nothing speaks for
    that."""


@dataclass(frozen=True)
class Tested:
    """What the lists of a model are worth on the test."""

    experiment: Experiment
    dataset: Dataset
    metrics: dict[str, float]
    """Means over the warm users, and what belongs to all lists, by name, as in ndcg_at_10."""
    per_user: pd.DataFrame
    """user (the id in the data), and a float64 column per metric that a user has by himself."""
    lists: pd.DataFrame
    """user, rank (from 1), item, title, hit: a row per place."""
    sample: str | None = None
    """The sample of the test's users that was ranked for, in words; None: all."""


@dataclass(frozen=True)
class Compared:
    """Which differences are real: as a table where it is printed, or the last line of a cell."""

    comparison: Comparison

    def __str__(self) -> str:
        from rich.console import Console

        from pipeline.compare.tables import show

        console = Console(width=WIDTH, color_system=None)
        with console.capture() as shown:
            show(self.comparison, console)
        return shown.get()

    def _repr_markdown_(self) -> str:
        from pipeline.compare.tables import markdown

        return markdown(self.comparison)


def load(dataset: str | Path, *, reading: Mapping[str, Any] | None = None, **split: Any) -> Dataset:
    """Read, check and split ratings, or find them as they were prepared before.

    Args:
        dataset: a name as ml-1m, or the path of a file, a folder or a zip of one's own.
        reading: how the file is read where that cannot be found out: ``columns``, ``table``,
            ``items``, ``on_bad_rows``, ``accept_split``.
        split: fields of the split, as ``test_cut=0.9`` or ``protocol="random"``.

    Raises:
        UserError: the data cannot be had, are not what they should be, or are too few.
    """
    from pipeline.data.raw.reading import Reading
    from pipeline.data.split_settings import SplitSettings
    from pipeline.evaluation.prepared import prepare_and_tell

    how = Reading.read(reading or {}, "reading")
    return prepare_and_tell(str(dataset), SplitSettings.read(split, "load"), how).dataset


def fit(model: str | Path, dataset: Dataset, *, name: str | None = None, **fields: Any) -> Fitted:
    """Validate a model on windows inside the training part of ``dataset``, then fit it to all.

    A model that learns in epochs stops after the number that was best on the windows.

    Args:
        model: ncf, ease, ..., one's own as my_file.py:Graph, or a file of an experiment,
            which ends in .yaml.
        dataset: what ``load`` gives.
        name: what it is called in a comparison, if not as the model or the file.
        fields: of the experiment or its model, as ``embedding_dim=16``, ``seed=7``, ``k=(10, 100)``
            or ``windows=()`` for no validation.

    Raises:
        UserError: there is no such model, a field is unknown or wrong, or training diverged.
    """
    from pipeline.config import read_experiment
    from pipeline.data.split_settings import SplitSettings
    from pipeline.evaluation.fitting import FINAL, chosen, validate_experiment, warned
    from pipeline.fields import find_file
    from pipeline.models import fitting
    from pipeline.training.checkpoint import Journal

    for field in SplitSettings.given():
        if field in fields:
            raise UserError(f"{field} is a field of the split: give it to load, not to fit.")
    file = find_file(model) if str(model).endswith(".yaml") else None
    given = fields if file else {"model": str(model), **fields}
    experiment = read_experiment(file, given)
    split = {"split": dataset.split, **({"name": name} if name else {})}
    experiment = experiment.model_copy(update=split)
    journal = Journal()
    validation = validate_experiment(experiment, dataset, journal)
    recommender = chosen(experiment, validation)
    fitting.fit(recommender, dataset, FINAL, journal)
    found = warned(experiment, recommender, validation)
    return Fitted(experiment, dataset, recommender, validation, found)


def evaluate(fitted: Fitted) -> Tested:
    """Rank the whole catalogue for every warm user of the test, and judge the lists.

    Raises:
        UserError: the test has no such users.
    """
    from pipeline.evaluation.evaluate import evaluate as rank_and_judge
    from pipeline.evaluation.evaluate import recommendations

    experiment, dataset = fitted.experiment, fitted.dataset
    ranked = rank_and_judge(
        fitted.recommender,
        dataset,
        experiment.k,
        own=experiment.own_metrics,
        sample=experiment.eval_users,
    )
    per_user = ranked.evaluation.per_user
    per_user.insert(0, "user", dataset.users["user"].to_numpy()[ranked.users])
    lists = recommendations(ranked, dataset)
    return Tested(experiment, dataset, ranked.evaluation.summary, per_user, lists, ranked.sample)


def compare(
    tests: Iterable[Tested], *, metric: str = "ndcg_at_10", baseline: str | None = None
) -> Compared:
    """Which models differ on the same test, by paired permutation tests over its users.

    Fits that differ in nothing but the seed are one row; what was tested on other data, another
    split or with another mask is listed apart.

    Args:
        tests: what ``evaluate`` gives, of each model.
        metric: of accuracy, which ranks them.
        baseline: the name of the model that the others are compared with; the best by default.

    Raises:
        UserError: there is nothing to compare, or no such metric or baseline.
    """
    from pipeline.compare.comparison import compare_runs
    from pipeline.compare.evaluated import EvaluatedRun
    from pipeline.compare.evidence import LISTS, PER_USER
    from pipeline.evaluation.sample import SAMPLE

    def as_run(number: int, tested: Tested) -> EvaluatedRun:
        tables = {PER_USER: tested.per_user, LISTS: tested.lists}

        def fetch(name: str, folder: Path) -> Path:
            path = folder / Path(name).name
            tables[name].to_parquet(path, index=False)
            return path

        experiment, dataset = tested.experiment, tested.dataset
        tags = {
            "experiment": experiment.name,
            "model": experiment.model,
            "dataset": dataset.name,
            "dataset_fingerprint": dataset.fingerprint,
            "split": dataset.protocol,
            "mask": experiment.mask,
            **({} if tested.sample is None else {SAMPLE: tested.sample}),
        }
        params = {name: str(value) for name, value in experiment.flat().items()}
        metrics = {f"test/{name}": value for name, value in tested.metrics.items()}
        return EvaluatedRun(
            f"number {number}", experiment.name, number, tags, params, metrics, fetch
        )

    runs = [as_run(number, tested) for number, tested in enumerate(tests, start=1)]
    return Compared(compare_runs(runs[::-1], metric, baseline))


def recommend(
    fitted: Fitted,
    users: Sequence[str | int] = (),
    *,
    likes: Sequence[Sequence[str | int]] = (),
    k: int = 10,
) -> pd.DataFrame:
    """Lists for users of the data by their ids, then for people of whom it is known what they like.

    Args:
        fitted: what ``fit`` gives.
        users: ids; of whom the model does not know, what is popular.
        likes: for each of the people, ids of items.
        k: length of the lists.

    Returns:
        A row per place: user, rank (from 1), item, title, score, fallback, reason, the last two
        where the model did not answer for a user who trained.

    Raises:
        UserError: an id is none, or k is below 1.
    """
    import pandas as pd

    from pipeline.models.folder import FittedModel
    from pipeline.serving.answers import Answers, read_requests

    people = [{"user": user} for user in users] + [{"items": list(items)} for items in likes]
    requests = read_requests(pd.DataFrame(people, columns=["user", "items"], dtype=object))
    return Answers(FittedModel.of(fitted.recommender, fitted.dataset)).answer(requests, k)
