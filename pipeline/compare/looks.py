"""How often a test was looked at, and which seeds were left out: what a picked result leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.compare.contenders import name_of, settings_of
from pipeline.compare.evaluated import EvaluatedRun

SHOWN_RUNS = 5  # that were left out, of one experiment


@dataclass(frozen=True)
class Looks:
    """How much of one experiment has been evaluated on a test."""

    configurations: int
    """Different settings, whatever the seed."""
    runs: int
    """Different settings and seeds."""

    def __str__(self) -> str:
        many, runs = self.configurations != 1, self.runs != 1
        return (
            f"{self.configurations} configuration{'s' if many else ''} "
            f"({self.runs} run{'s' if runs else ''})"
        )


def count_looks(
    experiment: str, evaluated: Sequence[EvaluatedRun], params: Mapping[str, str] | None = None
) -> Looks:
    """The looks of an experiment at the test of one dataset.

    Args:
        experiment: its name.
        evaluated: all that was evaluated on the dataset.
        params: of a run that is being evaluated just now.
    """
    known = [run.params for run in evaluated if name_of(run) == experiment and not run.from_ledger]
    seen = {
        (settings_of(each), each.get("seed"))
        for each in (*known, *([] if params is None else [params]))
    }
    return Looks(len({settings for settings, _ in seen}), len(seen))


def left_out(
    compared: Sequence[EvaluatedRun], evaluated: Sequence[EvaluatedRun], metric: str
) -> str | None:
    """Which seeds of the same experiment and settings are evaluated and not ``compared``.

    ``compared`` are the runs of one experiment with one configuration, ``evaluated`` all runs on
    the same dataset, latest first, ``metric`` is what they are listed with, as in ndcg_at_10.
    """
    first = compared[0]
    same: dict[object, EvaluatedRun] = {run.params.get("seed"): run for run in compared}
    there = len(same)
    for run in evaluated:
        alike = name_of(run) == name_of(first) and not run.from_ledger
        if alike and settings_of(run.params) == settings_of(first.params):
            same.setdefault(run.params.get("seed"), run)
    missing = list(same.values())[there:]
    if not missing:
        return None
    listed = ", ".join(
        f"{run.id} ({metric} {run.metrics.get(f'test/{metric}', float('nan')):.4f})"
        for run in missing[:SHOWN_RUNS]
    )
    more = f" and {len(missing) - SHOWN_RUNS} more" if len(missing) > SHOWN_RUNS else ""
    return (
        f"{there} of the {len(same)} seeds evaluated on this data "
        f"{'is' if there == 1 else 'are'} compared; left out: runs {listed}{more}: give them too"
    )
