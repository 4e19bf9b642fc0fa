"""Many processes at once, on one store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from tests.faults import disks, servers
from tests.faults.rows import FRESH, Row, Site
from tests.soak.audit import Picture
from tests.tracking.servers import running

GROUP = "crowd"
WRITERS, KILLS, PAUSE = 8, 4, 4.0  # seconds between a server's return and its next end
MANY = 16
ON_SERVER = f"server killed {KILLS} times under {WRITERS} writers"
ON_SQLITE = f"{MANY} processes on an existing SQLite store"


def rows(folder: Path, ratings: pd.DataFrame, wanted: str) -> Iterator[Row]:
    """A row per crowd whose name has ``wanted`` in it."""
    if wanted in ON_SERVER:
        yield on_server(folder, ratings)
        del os.environ["MLFLOW_EXPERIMENT_NAME"]
    if wanted in ON_SQLITE:
        yield on_sqlite(folder, ratings)


def on_server(folder: Path, ratings: pd.DataFrame) -> Row:
    """All write to a server that is killed and started again and again."""
    with running(folder) as server:
        many = servers.Servers(folder, ratings, server)
        alone = many.site("alone")
        alone.must(*FRESH)
        (same,) = alone.ask(alone.pictures)
        site = many.site(ON_SERVER)
        ends = [site.begin(*FRESH)[1] for _ in range(WRITERS)]
        # Who has never had an answer is not to wait for a server: all have begun before it is away.
        while site.ask(lambda: len(site.runs())) < WRITERS:
            threading.Event().wait(0.2)
        for _ in range(KILLS):
            threading.Event().wait(PAUSE)
            server.kill()
            server.start()
        return at_their_ends(site, ends, same)


def on_sqlite(folder: Path, ratings: pd.DataFrame) -> Row:
    """All write to one file."""
    twin = disks.local(folder / "twin-of-many", Row(GROUP, "twin"), ratings)
    twin.must(*FRESH)
    (same,) = twin.ask(twin.pictures)
    site = disks.local(folder / "many", Row(GROUP, ON_SQLITE), ratings)
    return at_their_ends(site, [site.begin(*FRESH)[1] for _ in range(MANY)], same)


def at_their_ends(site: Site, ends: Sequence[Callable[[], int]], twin: Picture) -> Row:
    """All have to end well, each with a run that is exact."""
    for end in ends:
        if end():
            site.row.wrong.append("a process did not end well")
    site.must("sync")
    return site.compare(twin, len(ends))
