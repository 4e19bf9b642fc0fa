"""What the study's run shows: a table of the best trials, plots, counts; redrawn as it goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from optuna.study import Study

from pipeline.tracking.runs import Run
from pipeline.tuning import edges
from pipeline.tuning.figures import study_figures
from pipeline.tuning.plan import Plan
from pipeline.tuning.study import WIDENED, Tally, stored_plan, tally
from pipeline.tuning.trial_table import trial_table

LEAST_SECONDS = 20.0  # between two drawings
SHARE = 20  # times as long as a drawing took must pass before the next: workers need the cores


class StudyReport:
    """Keeps the parent run's description, metrics and plots up to date."""

    def __init__(self, study: Study, parent: Run) -> None:
        self.study, self.parent = study, parent
        self.drawn, self.due = -1, 0.0
        self.results: Sequence[str] = ()
        """Lines on what came of the refit."""

    def redraw(self, now: Tally) -> None:
        """Draw anew where trials have ended since, but not all the time."""
        if now.done == self.drawn or time.monotonic() < self.due:
            return
        started = time.monotonic()
        self.log()
        took = time.monotonic() - started
        self.due = time.monotonic() + max(LEAST_SECONDS, SHARE * took)

    def log(self) -> None:
        """Log counts, best value, plots and description."""
        now, plan = tally(self.study), stored_plan(self.study)
        self.drawn = now.done
        counts = {
            "complete": now.complete,
            "pruned": now.pruned,
            "failed": now.failed,
            "lost": now.lost,
        }
        metrics = {f"trials/{name}": float(count) for name, count in counts.items()}
        if now.best is not None:
            pairs = zip(plan.objectives, now.best.values, strict=True)
            metrics |= {f"best/{name}": value for name, value in pairs}
        # By the number of trials that have ended: whoever goes on with the study and logs at the
        # same number finds the same.
        self.parent.log_metrics(metrics, sum(counts.values()))
        for name, figure in study_figures(self.study, plan).items():
            self.parent.log_figure(figure, f"figures/{name}")
        if plan.widened:
            self.parent.log_params({WIDENED: " ".join(edges.widenings(plan))})
        self.parent.describe(self._description(plan, counts))

    def _description(self, plan: Plan, counts: Mapping[str, int]) -> str:
        experiment = plan.experiment
        counted = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        lines = [
            f"Study `{self.study.study_name}` of `{experiment.name}`: {counted or 'no trial yet'} "
            f"(budget {plan.budget}).\n",
            *(f"{sentence}\n" for sentence in edges.widenings(plan)),
            *self.results,
            trial_table(self.study, plan),
        ]
        return "\n".join(lines)
