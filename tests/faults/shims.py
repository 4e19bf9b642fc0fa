"""Commands with a broken clock or disk: ``shim.c``, compiled, and loaded into them before libc."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from tests.faults.rows import Site
from tests.steps.workplace import finish, wait_until

SOURCE = Path(__file__).parent / "shim.c"


@cache
def compiled(folder: Path) -> Path:
    """The library, made in ``folder``."""
    library = folder / "shim.so"
    words = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(words, check=True)
    return library


def begin(
    site: Site, *words: str, on: Sequence[str] = (), **variables: str
) -> subprocess.Popen[str]:
    """Start a command with the library, by whoever is ``on``; ``variables`` name the files that it
    looks for."""
    library = compiled(site.place.folder.parent)
    # In a file: a pipe that nobody reads would stop it.
    with (site.place.folder / "told.log").open("w") as told:
        variables |= {"LD_PRELOAD": str(library), "MLFLOW_TRACKING_URI": site.uri}
        return site.place.start("pipeline", *words, on=on, told=told, **variables)


def end(site: Site, process: subprocess.Popen[str], name: str) -> None:
    """Wait for its end, and note that."""
    status = finish(process).status
    site.heard(name, status, (site.place.folder / "told.log").read_text()[-2000:])


def trains(site: Site) -> Callable[[], bool]:
    """Whether a run in ``site`` is in the middle of its training, as its journal shows."""
    return lambda: any(site.place.folder.glob("data/checkpoints/*/checkpoint.pt"))


def in_mid_training(site: Site, process: subprocess.Popen[str]) -> None:
    """Wait for it."""
    wait_until(trains(site), process)
