"""A clock that is set back while a model is trained."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tests.faults import disks
from tests.faults.rows import FRESH, Row
from tests.faults.shims import begin, end, in_mid_training

GROUP = "clock"
GOES_ON = "set back an hour in mid-training"
IS_KILLED = "set back an hour, killed, resumed"


def rows(folder: Path, ratings: pd.DataFrame, wanted: str) -> Iterator[Row]:
    """A row each for a run that goes on, and one that is killed after that, and resumed."""
    names = [name for name in (GOES_ON, IS_KILLED) if wanted in name]
    if not names:
        return
    twin = disks.local(folder / "twin", Row(GROUP, "twin"), ratings)
    twin.must(*FRESH)
    twin.evaluate()
    (same,) = twin.ask(twin.pictures)
    for name in names:
        site = disks.local(folder / name.replace(" ", "-"), Row(GROUP, name), ratings)
        mark = site.place.folder / "back"
        process = begin(site, *FRESH, CLOCK_BACK=str(mark))
        in_mid_training(site, process)
        mark.touch()
        if name == IS_KILLED:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            end(site, process, "train")
        for words in (("sync",), ("train", "--resume", "RUN"), ("evaluate", "--run_id", "RUN")):
            if "--resume" in words and name == GOES_ON:
                continue
            run_id = site.ask(lambda site=site: str(site.runs()[0].info.run_id))
            words = [run_id if word == "RUN" else word for word in words]
            end(site, begin(site, *words, CLOCK_BACK=str(mark)), words[0])
        yield site.compare(same)
