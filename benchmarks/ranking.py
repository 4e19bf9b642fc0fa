"""Full ranking against the notebook's loop over users, and what it takes for every model.

    python -m benchmarks.ranking [--dataset ml-1m] [--sample 600] [--json]

All users of the dataset are ranked against the whole catalogue: a random fifth of each user's
ratings is held out, so that everyone can be evaluated. The loop takes one user at a time, scores
the items that the user has not seen, sorts them, and computes its metrics with Python's sets; it
runs over a random sample of users and is scaled to all of them. Memory is measured in a process of
its own that is given the fitted model and the dataset.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from benchmarks import notebook
from benchmarks.fresh import MIB, measure, peak_memory, restart_peak
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.training import DIMENSION, DROPOUT, LAYERS, settings
from pipeline.config import read_experiment
from pipeline.data.dataset import Dataset
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.raw.sources import find
from pipeline.data.split_settings import SplitSettings
from pipeline.evaluation.evaluate import FullRanking, Ranked
from pipeline.evaluation.ranking import MEMORY_BUDGET
from pipeline.models.base import Recommender
from pipeline.models.ncf import NCF

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
K = 10
TURNS = 9  # of a side of the comparison, which take a quarter of a second each
ROUNDS = 3  # of every model
RATIO, SECONDS = 50.0, 3.0
ALIKE = 0.99  # of the places of both sides' lists; near-ties may change places
METRICS = ("hit_rate", "precision", "recall", "ndcg", "map")
OTHERS = ("most_popular", "svd", "als", "ease", "item_knn", "user_knn")

Answer = TypeVar("Answer")


def everyone(name: str, generator: np.random.Generator) -> Dataset:
    """Every user and item of a named dataset, a random fifth of the ratings held out.

    One rating of each user and of each item always trains, so that all of both are known, and one
    other of each user is always held out, so that everyone has something to be evaluated on.
    """
    source = find(name)
    ratings = read_ratings(source.path)
    # In the order of a file, the first user would have the first rating of every item of theirs.
    table = ratings.table.sample(frac=1, random_state=generator)
    free = table.duplicated("user") & table.duplicated("item")
    last = ~table[["user"]].assign(free=free).duplicated(keep="last")
    held_out = free & (last | (generator.random(len(table)) < 0.2))
    return Dataset.from_existing_split(
        source.name, table[~held_out], table[held_out], ratings.items, SplitSettings()
    )


def as_in_the_notebook(model: NCF, dataset: Dataset) -> notebook.NeuMF:
    """The notebook's network with what ``model`` has learned."""
    twin = notebook.NeuMF(dataset.n_users, dataset.n_items, DIMENSION, LAYERS, DROPOUT).eval()
    network = model.network
    with torch.no_grad():
        for tables, learned in (
            ((twin.gmf_user, twin.mlp_user), network.users.weight),
            ((twin.gmf_item, twin.mlp_item), network.items.weight),
        ):
            for table, part in zip(tables, learned.split((DIMENSION, LAYERS[0] // 2)), strict=True):
                table.weight.copy_(part.T)
        twin.mlp[1].load_state_dict(network.hidden[0].state_dict())
        twin.output.load_state_dict(network.output.state_dict())
    return twin


def loop_over_users(
    network: notebook.NeuMF,
    users: npt.NDArray[np.int32],
    seen: dict[int, set[int]],
    relevant: dict[int, set[int]],
    n_items: int,
) -> tuple[npt.NDArray[np.int64], dict[str, float]]:
    """The notebook's evaluation: lists [n, K] of ``users``, and the means of their metrics."""
    lists, values = [], []
    for user in users.tolist():
        candidates = [item for item in range(n_items) if item not in seen[user]]
        with torch.no_grad():
            items = torch.tensor(candidates)
            scores = network(torch.full((len(items),), user), items).numpy()
        top = [candidates[place] for place in np.argsort(-scores, kind="stable")[:K]]
        hits = [place for place, item in enumerate(top) if item in relevant[user]]
        wanted = min(K, len(relevant[user]))
        ideal = sum(1 / math.log2(place + 2) for place in range(wanted))
        lists.append(top)
        values.append(
            (
                float(bool(hits)),
                len(hits) / K,
                len(set(top) & relevant[user]) / len(relevant[user]),
                sum(1 / math.log2(place + 2) for place in hits) / ideal,
                sum((rank + 1) / (place + 1) for rank, place in enumerate(hits)) / wanted,
            )
        )
    return np.array(lists), dict(zip(METRICS, np.mean(values, axis=0).tolist(), strict=True))


def items_of(users: pd.Series[int], items: pd.Series[int]) -> dict[int, set[int]]:
    """The set of items of each user."""
    return {int(user): set(mine) for user, mine in items.groupby(users)}


def evaluate(model: Recommender, dataset: Dataset) -> Ranked:
    """All of it anew: masks and popularity lists, which a study would make once, as well."""
    return FullRanking(dataset, (K,)).evaluate(model)


def timed(call: Callable[[], Answer]) -> tuple[Answer, float]:
    """What a call answers, and its seconds."""
    started = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - started


def memory(model: Recommender, dataset: Dataset) -> int:
    """Bytes that evaluation takes at the most, beside what this process holds already."""
    restart_peak()
    before = peak_memory()
    evaluate(model, dataset)
    return peak_memory() - before


def compare(
    model: NCF, dataset: Dataset, sample: int, generator: np.random.Generator
) -> tuple[list[Row], float, Ranked]:
    """Rows of both sides, the share of places of their lists that agree, and our lists.

    Raises:
        RuntimeError: more of the lists differs than near-ties explain.
    """
    ours = partial(evaluate, model, dataset)
    ranked = ours()
    places = np.sort(generator.permutation(len(ranked.users))[:sample])
    seen = items_of(dataset.train["user"], dataset.train["item"])
    relevant = items_of(dataset.test["user"], dataset.test["item"])
    network, users = as_in_the_notebook(model, dataset), ranked.users[places]
    loop = partial(loop_over_users, network, users, seen, relevant, dataset.n_items)
    rounds = [(timed(loop), timed(ours)[1]) for _ in range(TURNS)]  # taking turns
    (lists, theirs), _ = rounds[0][0]
    scaled = min(taken for (_, taken), _ in rounds) / len(places) * len(ranked.users)
    seconds = min(taken for _, taken in rounds)
    agreement = float((lists == ranked.lists[places]).mean())
    if agreement < ALIKE:
        raise RuntimeError(f"The sides share only {agreement:.1%} of the places of their lists")
    means = ranked.evaluation.per_user.iloc[places].mean()
    metrics = {name: float(means[f"{name}_at_{K}"]) for name in METRICS}
    rows: list[Row] = [
        {"side": side, "all users [s]": taken, "times the loop": scaled / taken, **values}
        for side, taken, values in (
            ("notebook's loop", scaled, theirs),
            ("this project", seconds, metrics),
        )
    ]
    return rows, agreement, ranked


def cost(model: Recommender, dataset: Dataset) -> Row:
    """Seconds at best and memory at most of evaluating a fitted model."""
    return {
        "all users [s]": min(timed(partial(evaluate, model, dataset))[1] for _ in range(ROUNDS)),
        "memory [MiB]": measure(memory, model, replace(dataset)).result / MIB,
    }


def report(name: str, sample: int) -> Report:
    """Both sides, then every model."""
    generator = np.random.default_rng(0)
    dataset = everyone(name, generator)
    progress("NCF")
    model = NCF(settings(2048, epochs=3), seed=42).fit(dataset)
    rows, agreement, ranked = compare(model, dataset, sample, generator)
    costs = {"ncf": cost(model, dataset)}
    for other in OTHERS:
        progress(other)
        fitted = read_experiment(EXPERIMENTS / f"{other}.yaml", {}).recommender().fit(dataset)
        costs[other] = cost(fitted, dataset)
    size = f"{len(ranked.users):,} users x {dataset.n_items:,} items"
    tables = [
        Table(f"Ranking and evaluation, {size}; metrics over {sample} users", rows),
        Table(
            "Ranking and evaluation of every model",
            [{"model": name, **figures} for name, figures in costs.items()],
        ),
    ]
    ratio = float(rows[1]["times the loop"])
    bars = [
        Bar("ranking and evaluation against the loop over users", ratio, RATIO, "times", True),
        Bar(f"{size} with NCF", float(rows[1]["all users [s]"]), SECONDS, "s"),
    ]
    note = (
        f"{agreement:.2%} of the places of the lists are the same; the others are near-ties of "
        f"scores that the two compute in another order. The best of {TURNS} rounds of each side, "
        f"taking turns, and of {ROUNDS} of each model. Memory is what evaluation takes at the most "
        f"beside fitted model and dataset; scores waiting to be ranked may have "
        f"{MEMORY_BUDGET // MIB} MiB, and a model some inside."
    )
    return Report("Full ranking", tables, bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to rank")
    arguments.add_argument("--sample", type=int, default=300, help="users of the loop")
    given = arguments.parse_args()
    report(given.dataset, given.sample).publish(given.json)


if __name__ == "__main__":
    main()
