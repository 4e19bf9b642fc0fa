"""A plan as people write it down: a study file, flags, or an experiment with its model's own space.

A study file is as flat as an experiment's: ``config`` names the experiment that is tuned, ``space``
what may vary; beside them stand settings of the study and fields of the experiment that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import change, field_groups, read_experiment, require_known
from pipeline.errors import UserError, brief
from pipeline.fields import find_file, read_yaml
from pipeline.models import family
from pipeline.settings import Settings
from pipeline.space import Range, as_choice, read_space
from pipeline.tuning.plan import ROLLING_WINDOWS, Plan, StudySettings


def read_plan(study: Path | None, config: Path | None, flags: Mapping[str, Any]) -> Plan:
    """The plan of a study file, or of an experiment with its model's default space.

    The experiment is that of a file, or else that of the model which ``flags`` name. ``flags`` are
    settings of the study or fields of the experiment; a field that is given has one value and
    leaves the space.

    Raises:
        UserError: neither or both files are given, a file or a field is wrong, or nothing varies.
    """
    if (study is None) == (config is None) and (study or "model" not in flags):
        raise UserError(
            "Give either --study FILE (as in experiments/studies/ncf.yaml), or --config FILE (as "
            "in experiments/ease.yaml) or --model NAME, whose own space is then searched."
        )
    content = {} if study is None else read_yaml(study)
    if study is not None:
        if "config" not in content:
            raise UserError(f"{study}: the field 'config', the experiment to tune, is missing")
        config = find_file(study.parent / str(content.pop("config")))
    where = str(study or config or f"--model={flags['model']}")
    listed = content.pop("space", None)
    settings = {name: content.pop(name) for name in StudySettings.given() if name in content}
    fields = dict(flags)
    settings |= {name: fields.pop(name) for name in StudySettings.given() if name in fields}
    with _within(study):
        of_file = {} if config is None else read_yaml(config)
        model = str({**of_file, **content, **fields}.get("model"))
        groups: list[type[Settings]] = [StudySettings, *field_groups(model).values()]
    require_known([*content, *fields], [name for group in groups for name in group.given()], where)
    overruled = family(model).settings_class.overruled
    content = {name: value for name, value in content.items() if name not in overruled(fields)}
    with _within(study):
        experiment = read_experiment(config, {"windows": ROLLING_WINDOWS, **content, **fields})
    if not experiment.windows:
        raise UserError(f"{where}: windows is empty: a study needs windows to choose on.")
    default = family(experiment.model).space
    if listed is None:
        fixed = {*content, *overruled(content)}
        space = {name: entry for name, entry in default.items() if name not in fixed}
    else:
        space = read_space(listed, f"{where}: space")
    given = {*fields, *overruled(fields)}
    plan = Plan(
        name=study.stem if study else experiment.name,
        experiment=experiment,
        space={name: entry for name, entry in space.items() if name not in given},
        settings=StudySettings.read(settings, where),
    )
    _require_usable(plan, where)
    return plan


@contextmanager
def _within(study: Path | None) -> Iterator[None]:
    """Tell of a study what is wrong with the experiment that it makes."""
    try:
        yield
    except UserError as error:
        raise error if study is None else UserError(f"{study}: {brief(error, 1000)}") from None


def _require_usable(plan: Plan, where: str) -> None:
    """Refuse a space with nothing in it, unknown fields, or values that a field does not take."""
    if not plan.space:
        raise UserError(
            f"{where}: there is nothing to search: {plan.experiment.model} has no space of its "
            f"own, or every field of it is given. Write a 'space' into the study file."
        )
    groups = field_groups(plan.experiment.model).values()
    fixed = {"model", "windows", "k"}  # another model or measure makes another study
    known = [name for group in groups for name in group.given() if name not in fixed]
    require_known(plan.space, known, f"{where}: space")
    for name, entry in plan.space.items():
        if isinstance(entry, Range) and plan.is_whole(name):
            fractions = [each for each in (entry.low, entry.high, entry.step or 1) if each % 1]
            if fractions:
                raise UserError(
                    f"{where}: space: {name}: {fractions[0]:g} is no whole number, and {name} "
                    f"takes no others: expected whole low, high and step."
                )
        for value in plan.values(name, 3):  # the ends, and one between: 0.5 is no truth value
            change(plan.experiment, {name: value}, f"{where}: space: {name}")
    for given in plan.settings.first_trials:
        require_known(given, known, f"{where}: first_trials")
        change(plan.experiment, given, f"{where}: first_trials")
        for name in given:
            if name in plan.space and plan.held(name, given[name]) != as_choice(given[name]):
                raise UserError(
                    f"{where}: first_trials: {name}={given[name]} lies outside its space, "
                    f"{plan.space[name].in_words()}: expected a value in it."
                )
