"""What may be wrong with a server, or on the way to it, while a model is trained and evaluated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from tests.faults.rows import FRESH, Row, Site
from tests.faults.ways import FAULTS, TIMEOUT, Way
from tests.steps.workplace import make_workplace
from tests.tracking.servers import Server, running

GROUP = "server"
PATIENCE, IMPATIENCE = "60", "2"  # seconds; with the second, a command ends before its fault does


class Servers:
    """A server, and the run that was never disturbed on the way to it."""

    def __init__(self, folder: Path, ratings: pd.DataFrame, server: Server) -> None:
        self.folder, self.ratings, self.server = folder, ratings, server
        twin = self.site("twin")
        twin.must(*FRESH)
        twin.evaluate()
        twin.must("sync")
        (self.twin,) = twin.ask(twin.pictures)
        twin.compare(self.twin)
        assert not twin.row.wrong, twin.row.wrong

    def site(self, name: str) -> Site:
        """A folder and an MLflow experiment for a row."""
        folder = self.folder / name.replace(" ", "-").replace(",", "")
        folder.mkdir()
        os.environ["MLFLOW_EXPERIMENT_NAME"] = name  # of all processes from now on
        kept = self.server.place.folder / "kept"
        place = make_workplace(folder, self.ratings, None)
        return Site(place, Row(GROUP, name), self.server.url, kept, name)

    def row(self, name: str) -> Row:
        """Disturb ``train`` now and then, ``evaluate`` from its first metrics to its end."""
        site = self.site(name)
        with way(self.server, name) as disturbed:
            disturbed.out_of_order = disturbed.often
            site.do(*FRESH, uri=disturbed.url, before=lambda: patience(PATIENCE))
            self.mend(disturbed)
            self.finish(site, disturbed.url)
            disturbed.out_of_order = disturbed.from_the_first_metrics_on
            status = site.evaluate(uri=disturbed.url, before=lambda: patience(IMPATIENCE))
            self.mend(disturbed)
            site.do("sync", uri=disturbed.url)
            if status:
                site.row.ways.append("evaluated again")
                site.evaluate()
        return site.compare(self.twin)

    def finish(self, site: Site, url: str) -> None:
        """As the site's, by the same way: an outbox is for the URL that its process was given."""
        direct, site.uri = site.uri, url
        site.finish()
        site.uri = direct

    def mend(self, disturbed: Way) -> None:
        """The fault ends."""
        disturbed.out_of_order = lambda method, path: False
        disturbed.for_good = False
        with disturbed.guard:  # who lets nobody listen holds it until somebody does
            pass
        if self.server.process is None:
            self.server.start()


def patience(seconds: str) -> None:
    """How long a command waits for a server that is away."""
    os.environ["PIPELINE_PATIENCE"] = seconds


@contextmanager
def way(server: Server, name: str) -> Iterator[Way]:
    """A way with this fault for the time of a ``with`` block."""
    with Way(server, name) as made:
        yield made
        made.shutdown()


def rows(folder: Path, ratings: pd.DataFrame, wanted: str) -> Iterator[Row]:
    """A row per fault whose name has ``wanted`` in it."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(TIMEOUT)
    names = [name for name in FAULTS if wanted in name]
    if not names:
        return
    with running(folder) as server:
        servers = Servers(folder, ratings, server)
        for name in names:
            yield servers.row(name)
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        del os.environ[name]
