"""What may be wrong with a disk. Mounts and other users need root."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from tests.faults.rows import FRESH, Row, Site
from tests.faults.shims import begin, end, in_mid_training, trains
from tests.soak.processes import ended
from tests.steps.workplace import make_workplace, wait_until
from tests.test_mishaps import ODD, POWERLESS

GROUP = "disk"
NOBODY = 65534
FULL_OUTBOX, FULL_CHECKPOINTS, FULL_STORE, FULL_DISK = "200k", "8k", 40_000, 400_000
FILE_SIZE = 30_000  # bytes

Fault = Callable[[Site], None]
"""Disturbs ``train``, until that has ended; then all is well again."""


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[Callable[..., None]]:
    """A mount at ``place``, and how it is changed."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *words, str(place)], check=True)
    try:
        yield lambda *again: subprocess.run(["mount", *again, str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def small(size: str) -> tuple[str, ...]:
    """A file system of this size."""
    return ("-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def room() -> tuple[str, ...]:
    """The same, with room."""
    return ("-o", "remount,size=64m")


def full(*parts: str, size: str) -> Fault:
    """A folder of the workplace on a disk that is soon full."""

    def fault(site: Site) -> None:
        with mounted(site.place.folder.joinpath(*parts), *small(size)) as change:
            site.do(*FRESH)
            change(*room())
            site.finish()
            outside = site.place.folder / "outside"
            shutil.copytree(site.place.folder.joinpath(*parts), outside)
        shutil.rmtree(site.place.folder.joinpath(*parts))
        outside.rename(site.place.folder.joinpath(*parts))

    return fault


def full_store(site: Site) -> None:
    """The database alone is on a disk that is soon full."""
    database, disk = site.place.folder / "mlflow.db", site.place.folder / "disk"
    size = database.stat().st_size + FULL_STORE
    with mounted(disk, *small(str(size))) as change:
        shutil.move(database, disk)
        database.symlink_to(disk / "mlflow.db")
        site.do(*FRESH)
        change(*room())
        site.finish()
        database.unlink()
        shutil.move(disk / "mlflow.db", database)


def read_only(site: Site) -> None:
    """The folder is taken from its user in the middle of training: it can only be read."""
    process = begin(site, *FRESH, on=POWERLESS)
    in_mid_training(site, process)
    given(site, NOBODY)
    end(site, process, "train")
    given(site, 0)
    site.finish()


def given(site: Site, user: int) -> None:
    """Make the folder a user's."""
    for path in [site.place.folder, *site.place.folder.rglob("*")]:
        os.chown(path, user, user)


def anothers(site: Site) -> None:
    """The folder is another user's."""
    given(site, NOBODY)
    end(site, begin(site, *FRESH, on=POWERLESS), "train")
    given(site, 0)
    site.finish()


def truncated(site: Site) -> None:
    """The database is half as long as it was; what helps is the backup."""
    database = site.place.folder / "mlflow.db"
    site.must(*FRESH)
    backup = shutil.copy(database, site.place.folder / "backup")
    os.truncate(database, database.stat().st_size // 2)
    site.do("compare")
    site.do(*FRESH)
    shutil.move(backup, database)
    site.finish()


def broken(site: Site) -> None:
    """Nothing that is written reaches the disk any more: EIO."""
    mark = site.place.folder / "broken"
    process = begin(site, *FRESH, DISK_BROKEN=str(mark))
    in_mid_training(site, process)
    mark.touch()
    end(site, process, "train")
    mark.unlink()
    site.finish()


def limited(site: Site) -> None:
    """No file may be longer than so many bytes, which the database is already."""
    limit = (site.place.folder / "mlflow.db").stat().st_size + FILE_SIZE
    site.do(*FRESH, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    site.finish()


def gone(*parts: str) -> Fault:
    """A folder vanishes in the middle of training."""

    def fault(site: Site) -> None:
        then(site, lambda: shutil.rmtree(site.place.folder.joinpath(*parts)))
        site.finish()

    return fault


def oddly_named(site: Site) -> None:
    """Its name is one that URLs, shells and SQL would take apart."""
    site.must(*FRESH)


def then(site: Site, do: Callable[[], object]) -> None:
    """Train, and ``do`` something when that is in its middle."""
    child, at_its_end = site.begin(*FRESH)
    wait_until(lambda: trains(site)() or ended(child))
    do()
    at_its_end()


FAULTS: dict[str, Fault] = {
    "full under the outbox": full("data", "outbox", size=FULL_OUTBOX),
    "full under checkpoints": full("data", "checkpoints", size=FULL_CHECKPOINTS),
    "full under the store": full_store,
    "full under artifacts": full("mlruns", size=FULL_OUTBOX),
    "read-only from the middle on": read_only,
    "another user's folder": anothers,
    "mlflow.db truncated": truncated,
    "EIO from the middle on": broken,
    "limit to a file's size": limited,
    "folder with odd characters": oddly_named,
    "outbox vanished": gone("data", "outbox"),
    "checkpoints vanished": gone("data", "checkpoints"),
    "artifacts vanished": gone("mlruns"),
}


def rows(folder: Path, ratings: pd.DataFrame, wanted: str) -> Iterator[Row]:
    """A row per fault whose name has ``wanted`` in it."""
    names = [name for name in FAULTS if wanted in name]
    if not names:
        return
    twin = local(folder / "twin", Row(GROUP, "twin"), ratings)
    twin.must(*FRESH)
    twin.evaluate()
    (same,) = twin.ask(twin.pictures)
    for name in names:
        below = ODD if FAULTS[name] is oddly_named else name.replace(" ", "-").replace("'", "")
        site = local(folder / below, Row(GROUP, name), ratings)
        FAULTS[name](site)
        site.evaluate()
        yield site.compare(same)


def local(folder: Path, row: Row, ratings: pd.DataFrame) -> Site:
    """A folder with a store of its own."""
    folder.mkdir()
    place = make_workplace(folder, ratings, None)
    site = Site(place, row, "sqlite:///mlflow.db")
    site.must("prepare", "--dataset=ratings.csv")  # makes the store
    return site
