"""An attack from a seed: commands are killed at random moments, then everything is audited.

    python -m tests.soak --seed 0 --kills 100        (or: make soak)

Rounds begin in an empty folder, or with an empty store. ``prepare``, ``train``, ``sync``,
``import_ledger``, ``evaluate``, ``recommend``, ``main``, ``backtest``, ``compare``, ``migrate`` and
now and then ``tune`` are started there, ended by SIGKILL at a moment drawn from the time that the
command takes undisturbed (it may be over before), and then run to their end, ``train`` by
``--resume`` and by the same command. Some rounds begin with several commands at once.

Then the audit: the databases are sound, no run is RUNNING, no point is there twice, nothing is left
in the outbox and nothing unfinished on disk; every run that is FINISHED is equal to its twin, which
was never disturbed, to the bit of its weights; every run that is KILLED says how to go on, and what
can be resumed is, and is equal then, too; what ``recommend`` writes was there whole or not at all,
and the copy that ``migrate`` makes holds every run once. Exit status 1 if anything is not so.

Commands run in processes forked from this one, so that moments are spent on what a command does and
not on its imports; this process itself never opens a database. Workers of studies are started anew.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import mlflow

from tests.soak.attack import Attack


def main() -> None:
    """Attack until so many processes were killed, and tell what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where to work; what failed is kept there")
    given = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for the workers of studies
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    attack, number, began = Attack(given.seed, folder), 0, time.monotonic()
    attack.make_twin()
    told_of = 0
    while attack.killed.total() < given.kills and len(attack.problems) < 20:
        attack.round(number)
        number += 1
        minutes, problems = (time.monotonic() - began) / 60, len(attack.problems)
        killed = attack.killed.total()
        print(f"round {number}, {minutes:.0f} min: {killed} killed, {problems} problems")
        print("".join(f"  {each}\n" for each in attack.problems[told_of:]), end="", flush=True)
        told_of = problems
    print(f"mlflow {mlflow.__version__}, seed {given.seed}, {number} rounds in {folder}")
    print(f"killed, {attack.killed.total()} in all: {told(attack.killed)}")
    print(f"over before that: {told(attack.too_late)}")
    print(f"runs audited: {told(attack.audited)}")
    sys.exit(bool(attack.problems))


def told(counts: Counter[str]) -> str:
    """Counts in a line, by name."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
