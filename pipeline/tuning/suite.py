"""A suite of studies: the families that are tried on one data set, each with the same budget.

    studies: [most_popular, item_knn, ease, ncf]    # files beside this one, or experiments above it
    minutes_each: 3

A name without a study file is an experiment that has nothing to search: it is a fixed row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.config import Experiment, field_groups, read_experiment
from pipeline.errors import UserError
from pipeline.fields import read_yaml
from pipeline.settings import Settings, unknown_fields
from pipeline.tuning.plan import ROLLING_WINDOWS, Plan, StudySettings
from pipeline.tuning.study_files import read_plan


class SuiteSettings(Settings):
    """Which studies, and what each may take."""

    studies: tuple[str, ...] = Field(min_length=1)
    """Names of study files beside the suite's, or of experiments in the folder above."""
    minutes_each: float = Field(3.0, gt=0)
    """Of trials, for each study: the same for all is what makes the comparison fair."""


@dataclass(frozen=True)
class Suite:
    """Studies and fixed rows, in the order in which they are run."""

    name: str
    settings: SuiteSettings
    studies: list[tuple[Plan, list[Plan]]]
    """Each with the studies that it learns beside."""
    fixed: list[Experiment]
    flags: Mapping[str, Any]
    """Fields that were given for all."""

    @property
    def experiments(self) -> list[Experiment]:
        """Of all rows, fixed ones first."""
        return [*self.fixed, *(plan.experiment for plan, _ in self.studies)]

    @property
    def given(self) -> dict[str, Any]:
        """What the suite says, and what was given."""
        return {**self.settings.model_dump(mode="json"), **self.flags}

    def in_words(self) -> str:
        """What it will take, in a line."""
        minutes = self.settings.minutes_each
        rows = f" and {len(self.fixed)} without a search" if self.fixed else ""
        return (
            f"{len(self.studies)} families, at most {minutes:g} min of trials each, "
            f"{len(self.studies) * minutes:g} min in all{rows}"
        )


def is_suite(file: Path) -> bool:
    """Whether a study file lists studies."""
    return "studies" in read_yaml(file)


def read_suite(file: Path, flags: Mapping[str, Any]) -> Suite:
    """The suite of a file, with ``flags`` for every study that has the field.

    Raises:
        UserError: a file or a field is wrong, or no study has the field of a flag.
    """
    own = {name: value for name, value in flags.items() if name in SuiteSettings.given()}
    others = {name: value for name, value in flags.items() if name not in own}
    settings = SuiteSettings.read({**read_yaml(file), **own}, str(file))
    budget = {"timeout": 60 * settings.minutes_each, **others}
    studies, fixed, known = [], [], set[str]()
    for name in settings.studies:
        study = file.parent / f"{name}.yaml"
        if study.exists():
            plan = _read(study, budget)
            studies.append((plan, read_beside(study, plan, budget)))
            known |= _fields(plan.experiment.model, StudySettings)
        else:
            experiment = _read_fixed(file, name, others)
            fixed.append(experiment)
            known |= _fields(experiment.model)
    unknown = [*unknown_fields([name for name in others if name not in known], sorted(known))]
    if unknown:
        raise UserError(f"No study of {file} has it: {'; '.join(unknown)}")
    return Suite(file.stem, settings, studies, fixed, others)


def read_beside(study: Path, plan: Plan, flags: Mapping[str, Any]) -> list[Plan]:
    """The studies that ``wide_from`` names, with the flags that they have fields for.

    Raises:
        UserError: there is no such file, or something in it is wrong.
    """
    return [_read(study.parent / f"{name}.yaml", flags) for name in plan.settings.wide_from]


def _read(study: Path, flags: Mapping[str, Any]) -> Plan:
    known = _fields(read_plan(study, None, {}).experiment.model, StudySettings)
    return read_plan(study, None, {name: flags[name] for name in flags if name in known})


def _read_fixed(file: Path, name: str, flags: Mapping[str, Any]) -> Experiment:
    config = file.parent.parent / f"{name}.yaml"
    if not config.exists():
        raise UserError(
            f"{file}: there is neither a study {file.parent / name}.yaml nor an experiment {config}"
        )
    known = _fields(read_experiment(config, {}).model)
    given = {name: flags[name] for name in flags if name in known}
    return read_experiment(config, {"windows": ROLLING_WINDOWS, **given})


def _fields(model: str, *more: type[Settings]) -> set[str]:
    return {name for group in (*field_groups(model).values(), *more) for name in group.given()}
