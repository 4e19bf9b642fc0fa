"""The models without a network against the libraries that they stand on: time to fit.

    python -m benchmarks.baselines [--dataset ml-1m] [--seconds 6] [--json]

"this project" fits an experiment from experiments/ to a Dataset, from its table of interactions to
the matrices that scores are made of. "library" is the library called directly with the same
settings, on a sparse matrix that is already there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy import sparse

from benchmarks.report import Bar, Report, Row, Table, parser, progress
from pipeline.config import Experiment, read_experiment
from pipeline.data.dataset import Dataset
from pipeline.data.prepared import prepare
from pipeline.data.split_settings import SplitSettings

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
EASE_SECONDS = 4.0
RATIO = 1.2  # of this project's time to the library's

Factors = tuple[Any, Any]
"""Two matrices, dense or sparse, whose product holds the scores."""


def ease(matrix: sparse.csr_matrix, params: Any, seed: int) -> Factors:
    """irspack calls it DenseSLIM; it inverts by LU."""
    from irspack.recommenders import DenseSLIMRecommender

    model = DenseSLIMRecommender(matrix, reg=params.regularization)
    model.learn()
    return matrix, model.W


def slim(matrix: sparse.csr_matrix, params: Any, seed: int) -> Factors:
    """irspack's, in one thread, as here: several give other last digits every time."""
    from irspack.recommenders import SLIMRecommender

    model = SLIMRecommender(
        matrix,
        alpha=params.alpha,
        l1_ratio=params.l1_ratio,
        positive_only=True,
        top_k=params.top_weights,
        n_threads=1,
    )
    model.learn()
    return matrix, model.W


def als(matrix: sparse.csr_matrix, params: Any, seed: int) -> Factors:
    """implicit's, in double precision and with BLAS in one thread, as implicit itself advises."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=params.factors,
            regularization=params.regularization,
            alpha=params.alpha,
            iterations=params.iterations,
            random_state=seed,
            dtype="float64",
        )
        model.fit(matrix, show_progress=False)
    return model.user_factors, model.item_factors.T


def svd(matrix: sparse.csr_matrix, params: Any, seed: int) -> Factors:
    """scikit-learn's."""
    from sklearn.decomposition import TruncatedSVD

    model = TruncatedSVD(params.components, n_iter=params.iterations, random_state=seed)
    return model.fit_transform(matrix), model.components_


def item_knn(matrix: sparse.csr_matrix, params: Any, seed: int) -> Factors:
    """implicit's."""
    return matrix, _similarity(matrix, params)


def user_knn(matrix: sparse.csr_matrix, params: Any, seed: int) -> Factors:
    """implicit's, of the transposed matrix."""
    return _similarity(matrix.T.tocsr(), params), matrix


def _similarity(rows: sparse.csr_matrix, params: Any) -> Any:
    from implicit import nearest_neighbours

    kinds = {"cosine": "Cosine", "tfidf": "TFIDF", "bm25": "BM25"}
    kind = getattr(nearest_neighbours, f"{kinds[params.similarity]}Recommender")
    model = kind(K=params.neighbours)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Method expects CSR input")
        model.fit(rows, show_progress=False)
    return model.similarity


LIBRARIES: dict[str, Callable[[sparse.csr_matrix, Any, int], Factors]] = {
    "ease": ease,
    "als": als,
    "item_knn": item_knn,
    "user_knn": user_knn,
    "svd": svd,
    "slim": slim,
}
CHANGES = {"ease": {"divide": "columns"}}  # from the notebook's to that of the library


def experiment(name: str) -> Experiment:
    """An experiment of experiments/ that its library can do, too."""
    return read_experiment(EXPERIMENTS / f"{name}.yaml", CHANGES.get(name, {}))


def compare(dataset: Dataset, seconds: float) -> list[Row]:
    """A row per model: the best of at least two fits a side, the sides taking turns.

    They go on for ``seconds``: what is quick is also what is easily disturbed.
    """
    rows: list[Row] = []
    for name, library in LIBRARIES.items():
        progress(name)
        asked = experiment(name)
        matrix = dataset.train_matrix(asked.params.model_dump()["values"])
        ours: list[float] = []
        theirs: list[float] = []
        while len(ours) < 2 or sum(ours + theirs) < seconds:
            fresh = replace(dataset)  # without the matrices that a dataset keeps
            started = time.perf_counter()
            asked.recommender().fit(fresh)
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            library(matrix, asked.params, asked.seed)
            theirs.append(time.perf_counter() - started)
        rows.append(
            {
                "model": name,
                "this project [s]": min(ours),
                "library [s]": min(theirs),
                "ratio": min(ours) / min(theirs),
                "fits": len(ours),
            }
        )
    return rows


def report(name: str, seconds: float) -> Report:
    """The whole comparison on a named dataset."""
    dataset = prepare(name, SplitSettings()).dataset
    rows = compare(dataset, seconds)
    own = {row["model"]: float(row["this project [s]"]) for row in rows}
    bars = [Bar("ease, from interactions to weights", own["ease"], EASE_SECONDS, "s")]
    bars += [
        Bar(f"{row['model']}, time over that of the library", float(row["ratio"]), RATIO)
        for row in rows
    ]
    size = f"{len(dataset.train):,} interactions, {dataset.n_users:,} users, {dataset.n_items:,}"
    table = Table(f"Fitting to {dataset.name}, {size} items", rows)
    note = (
        "The best fit of each side, taking turns. The time of this project includes making the "
        "sparse matrix (and, for EASE, X^T X), which the library is given; SLIM has one thread on "
        "both sides, the others have the threads that the libraries take."
    )
    return Report("Models without a network", [table], bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to prepare and fit")
    arguments.add_argument("--seconds", type=float, default=6, help="to spend on a model, or more")
    given = arguments.parse_args()
    report(given.dataset, given.seconds).publish(given.json)


if __name__ == "__main__":
    main()
