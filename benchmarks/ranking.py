"""Full ranking against the notebook's loop over users, and what it takes for every model.

    python -m benchmarks.ranking [--dataset ml-1m] [--sample 600] [--json]

All users of the dataset are ranked against the whole catalogue: a random fifth of each user's
ratings is held out, so that everyone can be evaluated. The loop takes one user at a time, scores
the items that the user has not seen, sorts them, and computes its metrics with Python's sets; it
runs over a random sample of users and is scaled to all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from benchmarks import notebook
from benchmarks.report import Bar, Report, Row, Table, parser, progress
from benchmarks.training import DIMENSION, DROPOUT, LAYERS, settings
from pipeline.config import read_experiment
from pipeline.data.dataset import Dataset
from pipeline.data.ratings import read_ratings
from pipeline.data.sources import find
from pipeline.data.split import SplitSettings
from pipeline.evaluation.evaluate import FullRanking, Ranked
from pipeline.models.base import Recommender
from pipeline.models.ncf import NCF

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
K = 10
ROUNDS = 3
RATIO, SECONDS = 50.0, 3.0
METRICS = ("hit_rate", "precision", "recall", "ndcg", "map")
OTHERS = ("most_popular", "svd", "als", "ease", "item_knn", "user_knn")

Answer = TypeVar("Answer")


def everyone(name: str, generator: np.random.Generator) -> Dataset:
    """Every user and item of a named dataset, a random fifth of the ratings held out.

    A user's and an item's first rating always trains, so that all of both are known.
    """
    source = find(name)
    ratings = read_ratings(source.path)
    table = ratings.table
    firsts = ~table.duplicated("user") | ~table.duplicated("item")
    held_out = ~firsts & (generator.random(len(table)) < 0.2)
    return Dataset.from_existing_split(
        source.name, table[~held_out], table[held_out], ratings.items, SplitSettings()
    )


def as_in_the_notebook(model: NCF, dataset: Dataset) -> notebook.NeuMF:
    """The notebook's network with what ``model`` has learned."""
    twin = notebook.NeuMF(dataset.n_users, dataset.n_items, DIMENSION, LAYERS, DROPOUT).eval()
    network = model.network
    with torch.no_grad():
        for tables, learned in (
            ((twin.gmf_user, twin.mlp_user), network.users),
            ((twin.gmf_item, twin.mlp_item), network.items),
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


def best_of(call: Callable[[], Answer], rounds: int = ROUNDS) -> tuple[Answer, float]:
    """What a call answers, and its seconds at best."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - started)
    return answer, min(times)


def _evaluate(model: Recommender, dataset: Dataset) -> Ranked:
    """All of it anew: masks and popularity lists, which a study would make once, as well."""
    return FullRanking(dataset, (K,)).evaluate(model)


def compare(
    model: NCF, dataset: Dataset, sample: int, generator: np.random.Generator
) -> tuple[list[Row], float, Ranked]:
    """Rows of both sides, the share of places of their lists that agree, and our lists."""
    ranked, seconds = best_of(partial(_evaluate, model, dataset))
    places = np.sort(generator.permutation(len(ranked.users))[:sample])
    seen = items_of(dataset.train["user"], dataset.train["item"])
    relevant = items_of(dataset.test["user"], dataset.test["item"])
    network, users = as_in_the_notebook(model, dataset), ranked.users[places]
    loop = partial(loop_over_users, network, users, seen, relevant, dataset.n_items)
    (lists, theirs), taken = best_of(loop, rounds=1)
    scaled = taken / len(places) * len(ranked.users)
    means = ranked.evaluation.per_user.iloc[places].mean()
    ours = {name: float(means[f"{name}_at_{K}"]) for name in METRICS}
    rows: list[Row] = [
        {"side": side, "all users [s]": time_, "times the loop": scaled / time_, **metrics}
        for side, time_, metrics in (
            ("notebook's loop", scaled, theirs),
            ("this project", seconds, ours),
        )
    ]
    return rows, float((lists == ranked.lists[places]).mean()), ranked


def report(name: str, sample: int) -> Report:
    """Both sides, then every model."""
    generator = np.random.default_rng(0)
    dataset = everyone(name, generator)
    progress("NCF")
    model = NCF(settings(2048, epochs=3), seed=42).fit(dataset)
    rows, agreement, ranked = compare(model, dataset, sample, generator)
    times = {"ncf": float(rows[1]["all users [s]"])}
    for other in OTHERS:
        progress(other)
        fitted = read_experiment(EXPERIMENTS / f"{other}.yaml", {}).recommender().fit(dataset)
        times[other] = best_of(partial(_evaluate, fitted, dataset))[1]
    size = f"{len(ranked.users):,} users x {dataset.n_items:,} items"
    tables = [
        Table(f"Ranking and evaluation, {size}; metrics over {sample} users", rows),
        Table(
            "Ranking and evaluation of every model",
            [{"model": other, "all users [s]": seconds} for other, seconds in times.items()],
        ),
    ]
    ratio = float(rows[1]["times the loop"])
    bars = [
        Bar("ranking and evaluation against the loop over users", ratio, RATIO, "times", True),
        Bar(f"{size} with NCF", times["ncf"], SECONDS, "s"),
    ]
    note = (
        f"{agreement:.2%} of the places of the lists are the same; the others are near-ties of "
        f"scores that the two compute in another order. Best of {ROUNDS} rounds, the loop once."
    )
    return Report("Full ranking", tables, bars, [note])


def main() -> None:
    """Command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m", help="what to rank")
    arguments.add_argument("--sample", type=int, default=600, help="users of the loop")
    given = arguments.parse_args()
    report(given.dataset, given.sample).publish(given.json)


if __name__ == "__main__":
    main()
