"""Who enters a backtest: settings that are fixed before it begins, of finished runs or of files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import Experiment
from pipeline.errors import UserError
from pipeline.evaluation.names import parse_accuracy
from pipeline.models import family

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Entrant:
    """One experiment that is refitted at every cut with the settings that it has."""

    experiment: Experiment
    """As it is refitted, but for the cut: its own ``test_cut`` is where its training ended."""
    run_id: str | None = None
    """Whose settings these are; None where they are an experiment file's."""

    def at(self, cut: float) -> Experiment:
        """The experiment with another cut and all else as it is."""
        split = self.experiment.split.model_copy(update={"test_cut": cut})
        return self.experiment.model_copy(update={"split": split})

    @property
    def settings(self) -> Experiment:
        """What is the same for all seeds of an experiment."""
        return self.experiment.model_copy(update={"seed": 0})

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is its experiment or its run's id."""
        return name == self.experiment.name or name == self.run_id


def admitted(entrants: Sequence[Entrant], metric: str, baseline: str | None) -> list[Entrant]:
    """Those that can be ranked with each other; checked before the hours that fits may take.

    Raises:
        UserError: their tests would have other users, they are not evaluated on the metric, or
            the baseline is none of them, or several.
    """
    masked = [each for each in entrants if family(each.experiment.model).masks_seen]
    left_out = [each.experiment.name for each in entrants if each not in masked]
    if masked and left_out:
        log.warning("Left out, seen items are not masked: %s", ", ".join(left_out))
    kept = masked or list(entrants)
    _check_users(kept)
    _check_metric(kept, metric)
    if baseline is not None:
        _check_baseline(kept, baseline)
    return kept


def _check_users(entrants: Sequence[Entrant]) -> None:
    first, *others = (
        {**each.at(0.5).split.model_dump(), "eval_users": each.experiment.eval_users}
        for each in entrants
    )
    for field, value in first.items():
        values = {value, *(other[field] for other in others)}
        if "auto" in values:  # a backtest is of data with times, for which it is time
            values = values - {"auto"} | {"time"}
        if len(values) > 1:
            raise UserError(
                f"{field} is {' and '.join(map(str, sorted(values)))}: expected the same for all "
                f"experiments, or their tests have different users."
            )


def _check_metric(entrants: Sequence[Entrant], metric: str) -> None:
    _, k = parse_accuracy(metric)
    for each in entrants:
        if k not in each.experiment.k:
            ks = ", ".join(map(str, each.experiment.k))
            raise UserError(
                f"metric={metric}: {each.experiment.name} is evaluated at k = {ks}, not at {k}."
            )


def _check_baseline(entrants: Sequence[Entrant], baseline: str) -> None:
    called = [each for each in entrants if each.is_called(baseline)]
    if not called:
        names = ", ".join(sorted({each.experiment.name for each in entrants}))
        raise UserError(
            f"baseline={baseline}: expected a run's id or an experiment of this backtest; these "
            f"are: {names}."
        )
    if any(each.settings != called[0].settings for each in called):
        ids = ", ".join(each.run_id for each in called if each.run_id is not None)
        raise UserError(
            f"baseline={baseline}: there are several with other settings (runs {ids}). Give the "
            f"id of a run."
        )
