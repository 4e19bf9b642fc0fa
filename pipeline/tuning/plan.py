"""The plan of a study: what is tuned, over which space, towards what, with which budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

from optuna.study import StudyDirection
from pydantic import Field, model_validator
from pydantic.fields import FieldInfo

from pipeline.config import Experiment, field_groups
from pipeline.settings import Settings
from pipeline.space import MOST_STEPS, Choice, Range, as_choice, spread

ROLLING_WINDOWS = (0.4, 0.55, 0.7, 0.85)  # a single window chooses badly
SHARE = 0.25  # of the budget, and of the time, that a widened space has on top
LEAST_MORE = 5  # trials in it
WIDE = "wide"  # the field of a model that learns beside another, whose choices wide_from fills


class StudySettings(Settings):
    """How a study searches."""

    objective: Literal["accuracy", "pareto"] = "accuracy"
    """accuracy: the highest mean validation NDCG; pareto: that and coverage, both."""
    coverage_floor: float = Field(0.0, ge=0, lt=1)
    """Mean validation coverage that a configuration needs in order to be chosen; 0 for none."""
    breadth_floor: float = Field(0.0, ge=0, le=1)
    """The same as a share of the coverage that can be reached: what the lists of all users would
    cover if no item were in two of them."""
    n_trials: int = Field(50, ge=1)
    """Trials of the whole study, complete or pruned; a study that goes on counts the old ones."""
    timeout: float | None = Field(None, gt=0)
    """Seconds of trials, over all starts of the study, after which no further one begins."""
    sampler: Literal["tpe", "gp", "cmaes", "random", "grid"] = "tpe"
    """What suggests: Optuna's TPE, Gaussian process, CMA-ES, random or grid sampler."""
    grid_points: int = Field(5, ge=2, le=MOST_STEPS)
    """Values that the grid sampler tries of a range without a step."""
    sampler_seed: int = Field(0, ge=0, lt=2**32)
    """Of the suggestions."""
    pruner: Literal["median", "successive_halving", "hyperband"] | None = "median"
    """What ends hopeless trials after a window; not with two objectives or a floor."""
    n_seeds: int = Field(3, ge=1)
    """Models fitted with the best configuration, with the experiment's seed and those after it."""
    heartbeat: int = Field(15, ge=1)
    """Seconds between two signs of life of a trial; after four without one it counts as lost."""
    model_name: str | None = None
    """The registered model that the result becomes a version of; none: STUDY-DATASET."""
    wide_from: tuple[str, ...] = ()
    """Studies beside this one, of the same data: ``wide`` becomes a choice of what they found."""
    first_trials: tuple[dict[str, Any], ...] = ()
    """Configurations to begin with, beside each choice of ``wide``. Fields of the space that are
    not named are at its low end or first choice; those that are no longer in it count for
    nothing. An end of a range that is named is no edge: nothing lies beyond it. With
    ``wide_from`` they are the simple ones, left only for a gain that is seen in the windows."""

    @model_validator(mode="after")
    def _two_objectives(self) -> Self:
        if self.objective == "pareto" and self.sampler == "cmaes":
            raise ValueError("sampler=cmaes knows one objective only: take tpe, gp or random")
        if self.sampler == "grid" and self.first_trials:
            raise ValueError("sampler=grid has an order of its own: give no first_trials")
        return self


class Widening(Settings):
    """An end of a range that has been moved, because the best trial lay there."""

    field: str
    end: Literal["low", "high"]
    was: float
    now: float
    trial: int
    """The best one, when the budget was taken."""


BUDGET = ("n_trials", "timeout", "n_seeds", "heartbeat", "model_name")
"""What may change when a study goes on; all else makes another study."""


class Plan(Settings):
    """An experiment, the space around it, and how to search that."""

    name: str
    """That of the study file, or of the experiment, without ending."""
    experiment: Experiment
    space: dict[str, Range | Choice]
    settings: StudySettings
    limits: dict[str, float] = Field(default_factory=dict)
    """The highest values that the data can hold, by field."""
    widened: tuple[Widening, ...] = ()
    """Ends of ``space`` that are no longer where the study file has them."""

    @classmethod
    def restore(cls, values: Mapping[str, Any], where: str) -> Plan:
        """The plan whose ``model_dump`` gave ``values``."""
        experiment = Experiment.restore(values["experiment"], where)
        return cls.read({**values, "experiment": experiment}, where)

    @property
    def directions(self) -> list[StudyDirection]:
        """Every objective is maximised."""
        return [StudyDirection.MAXIMIZE] * len(self.objectives)

    @property
    def objectives(self) -> list[str]:
        """The names of the metrics that are maximised."""
        metrics = [self.experiment.selection_metric, self.coverage_metric]
        return metrics if self.settings.objective == "pareto" else metrics[:1]

    @property
    def coverage_metric(self) -> str:
        """Coverage, at the length of list that selection looks at."""
        return f"coverage_at_{self.experiment.k[0]}"

    def field(self, name: str) -> FieldInfo:
        """What is declared of a field of the experiment."""
        groups = field_groups(self.experiment.model).values()
        (info,) = (group.model_fields[name] for group in groups if name in group.given())
        return info

    def is_whole(self, field: str) -> bool:
        """Whether a field takes whole numbers only."""
        info = self.field(field)
        kinds = get_args(info.annotation) or (info.annotation,)
        return int in kinds and float not in kinds

    def values(self, field: str, points: int) -> list[Any]:
        """At most ``points`` values of a field, spread over its range; all of a choice."""
        entry = self.space[field]
        found = spread(entry, points)
        if isinstance(entry, Choice) or not self.is_whole(field):
            return list(found)
        return sorted({round(float(str(value))) for value in found})

    def grid(self) -> dict[str, list[Any]]:
        """The values of each field that the grid sampler combines."""
        return {name: self.values(name, self.settings.grid_points) for name in self.space}

    def first_trials(self) -> list[dict[str, Any]]:
        """The configurations that the study begins with, with a value for each field."""
        lowest = {
            name: entry.choices[0] if isinstance(entry, Choice) else self.values(name, 2)[0]
            for name, entry in self.space.items()
        }
        wide = self.space.get(WIDE)
        beside = [{WIDE: each} for each in wide.choices] if isinstance(wide, Choice) else [{}]
        return [
            lowest
            | {name: self.held(name, value) for name, value in given.items() if name in self.space}
            | each
            for each in beside
            for given in self.settings.first_trials
        ]

    def begins_at(self, field: str) -> list[Any]:
        """The values that ``first_trials`` name for a field of the space."""
        given = self.settings.first_trials
        return [self.held(field, each[field]) for each in given if field in each]

    def held(self, field: str, value: Any) -> Any:
        """The value itself, or the nearest one of a space that has been cut."""
        entry, value = self.space[field], as_choice(value)
        if isinstance(entry, Range):
            low, high = self.values(field, 2)
            return min(max(type(low)(value), low), high)
        return value if value in entry.choices else entry.choices[0]

    @property
    def has_floor(self) -> bool:
        """Whether a configuration must be broad in order to be chosen."""
        return bool(self.settings.coverage_floor or self.settings.breadth_floor)

    @property
    def budget(self) -> int:
        """Trials of the whole study, with those of a widened space; a grid may have fewer."""
        if self.settings.sampler != "grid":
            more = max(LEAST_MORE, math.ceil(SHARE * self.settings.n_trials))
            return self.settings.n_trials + (more if self.widened else 0)
        combinations = math.prod(len(values) for values in self.grid().values())
        return min(self.settings.n_trials, combinations)

    @property
    def seconds(self) -> float:
        """Of trials, after which no further one begins, with those of a widened space."""
        if self.settings.timeout is None:
            return math.inf
        return self.settings.timeout * (1 + SHARE if self.widened else 1)

    def widen(self, ends: Sequence[Widening]) -> Plan:
        """The plan with ends of ranges moved."""
        space = dict(self.space)
        for each in ends:
            space[each.field] = space[each.field].model_copy(update={each.end: each.now})
        return self.model_copy(update={"space": space, "widened": (*self.widened, *ends)})

    def differences(self, other: Plan) -> list[str]:
        """Fields in which another plan would make another study."""
        ours, theirs = (plan._identity() for plan in (self, other))
        return sorted(
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        )

    def _identity(self) -> dict[str, Any]:
        settings = self.settings.model_dump(exclude=set(BUDGET))
        space = {f"space of {name}": entry.model_dump() for name, entry in self.space.items()}
        for each in self.widened:
            space[f"space of {each.field}"][each.end] = each.was
        return {**self.experiment.flat(), **settings, **space}
