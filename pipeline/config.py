"""What an experiment is: read from a YAML file, overridden by flags, checked as a whole.

Files and flags are flat, ``embedding_dim: 16`` or ``--embedding_dim 16``; the fields of the
experiment, of its split and of its model have different names, so each finds its own place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator

from pipeline.data.split_settings import Quantile, SplitSettings
from pipeline.errors import UserError, brief
from pipeline.evaluation.metrics import Metric, use_own
from pipeline.fields import EXPERIMENTS, find_file, read_yaml
from pipeline.models import family
from pipeline.models.base import Recommender
from pipeline.own import is_own, module_name
from pipeline.settings import Settings, refusing_values, unknown_field, unknown_fields
from pipeline.space import short

SHOWN = 4  # fields in the title of an experiment


class Experiment(Settings):
    """One model with its settings, one split, one seed."""

    name: str
    """The file's name without ending."""
    model: str
    """Which model, one of those that the help lists, or one's own, as my_file.py:Graph."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Of everything random in training."""
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((10,), min_length=1)
    """Lengths of the recommended lists; the first is the one that selection looks at."""
    windows: tuple[Quantile, ...] = (0.85,)
    """Quantiles of the training part at which validation windows are cut; empty for none. Where
    the split is not in time, each is one more draw, and only their number matters. A study has
    0.4, 0.55, 0.7 and 0.85 unless they are given, or those of them that the data have."""
    eval_users: int | None = Field(None, ge=2)
    """Rank for at most so many users of the test and of each window, drawn by split_seed, and log
    standard errors: for data of which all users take too long. None: for all."""
    metrics: tuple[str, ...] = ()
    """Metrics of one's own beside the usual ones, as my_file.py:long_tail."""
    split: SplitSettings = SplitSettings()
    params: SerializeAsAny[Settings]

    @classmethod
    def given(cls) -> list[str]:
        """The name comes from the file's name, split and params from their own fields."""
        return [name for name in super().given() if name not in ("name", "split", "params")]

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        with refusing_values():
            for name in metrics:
                use_own(name)
        return metrics

    @property
    def own_metrics(self) -> list[Metric]:
        """The metrics of one's own."""
        return [use_own(name) for name in self.metrics]

    @property
    def own_modules(self) -> list[str]:
        """The modules of what is one's own: the model, a loss, metrics."""
        names = [self.model, str(self.params.model_dump().get("loss", "")), *self.metrics]
        return [module_name(name) for name in names if is_own(name)]

    @property
    def device(self) -> str | None:
        """Where the model is to be trained: auto, cpu or cuda; None where it has no choice."""
        device: str | None = self.params.model_dump().get("device")
        return device

    @property
    def mask(self) -> str:
        """What is kept out of the lists, as runs are tagged: seen, what a user has in training, or
        none."""
        masked = family(self.model).masks_seen and self.split.repeats == "drop"
        return "seen" if masked else "none"

    @property
    def selection_metric(self) -> str:
        """The validation metric that chooses among epochs and configurations."""
        return f"ndcg_at_{self.k[0]}"

    def recommender(self, **changes: Any) -> Recommender:
        """The unfitted model, with some of its settings changed."""
        params = self.params.model_copy(update=changes)
        return family(self.model)(params, self.seed)

    def title(self, given: Iterable[str]) -> str:
        """Its name with what differs from its file: the fields that were ``given``, if it has them.

        The model is no difference: an experiment without a file is called by it.
        """
        values = self.flat()
        names = [name for name in given if name in values and name != "model"]
        shown = [f"{name}={short(values[name])}" for name in names[:SHOWN]]
        return " ".join([self.name, *shown, *(["..."] if len(names) > SHOWN else [])])

    @classmethod
    def restore(cls, values: Mapping[str, Any], where: str) -> Experiment:
        """The experiment whose ``model_dump`` gave ``values``.

        One that was saved before there was a choice of optimizers was trained with Adam.

        Raises:
            UserError: this version of the project no longer knows it.
        """
        settings, saved = family(values["model"]).settings_class, values["params"]
        if "optimizer" in settings.model_fields:
            saved = {"optimizer": "adam", **saved}
        params = settings.read(saved, where)
        return cls.read({**values, "params": params}, where)

    def flat(self) -> dict[str, Any]:
        """All fields under their flat names, as they would stand in a file."""
        left_out = {name for name in ("metrics", "eval_users") if not getattr(self, name)}
        values = self.model_dump(mode="json", exclude=left_out)
        split, params = values.pop("split"), values.pop("params")
        return {**values, **split, **params}


def read_experiment(config: Path | None, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment that a YAML file describes, with ``overrides`` on top.

    Without a file it is that of the model which ``overrides`` name, with the model's defaults.

    Raises:
        UserError: the file is missing or no YAML mapping, or a field is unknown or wrong.
    """
    flags = _flags(overrides)
    if config is None:
        return _checked(experiment_name(str(overrides.get("model"))), overrides, flags)
    where = f"{config} with {flags}" if overrides else str(config)
    return _checked(config.stem, _override(read_yaml(config), overrides), where)


def experiment_name(model: str) -> str:
    """What an experiment without a file is called: as its model, or as the class of one's own."""
    return model.rpartition(":")[2]


def change(experiment: Experiment, fields: Mapping[str, Any], where: str) -> Experiment:
    """``experiment`` with other values for some of its flat fields.

    Raises:
        UserError: a field is unknown or wrong.
    """
    values = experiment.flat()
    return _checked(values.pop("name"), _override(values, fields), where)


def _override(values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` on top of ``values``; a penalty given in one unit replaces it in the other."""
    merged = {**values, **fields}
    try:
        gone = family(str(merged.get("model"))).settings_class.overruled(fields)
    except UserError:
        gone = set()  # whoever checks the fields says what is wrong with the model
    return {name: value for name, value in merged.items() if name not in gone}


def _checked(name: str, values: Mapping[str, Any], where: str) -> Experiment:
    if "model" not in values:
        raise UserError(f"{where}: the field 'model' is missing")
    try:
        fields = field_groups(str(values["model"]))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    require_known(values, [name for group in fields.values() for name in group.given()], where)
    split, params = (
        fields[group].read(_only(fields[group].given(), values), where)
        for group in ("split", "params")
    )
    own = _only(Experiment.given(), values)
    return Experiment.read({**own, "name": name, "split": split, "params": params}, where)


def require_known(values: Iterable[str], known: list[str], where: str) -> None:
    """Refuse names that are no field.

    Raises:
        UserError: naming each, and the nearest one that is.
    """
    problems = [*unknown_fields([str(name) for name in values if name not in known], known)]
    if problems:
        raise UserError(f"{where}: {'; '.join(problems)}")


def field_groups(model: str) -> dict[str, type[Settings]]:
    """The groups of fields that an experiment with ``model`` has: experiment, split, params.

    Raises:
        UserError: there is no such model.
    """
    return {
        "experiment": Experiment,
        "split": SplitSettings,
        "params": family(model).settings_class,
    }


def read_suite(suite: str, overrides: Mapping[str, Any]) -> list[Experiment]:
    """The experiments that ``experiments/suites/SUITE.yaml`` (or a path to such a file) lists.

    An override changes the experiments that have its field.

    Raises:
        UserError: the file is missing, is no list of names, or names an experiment without file;
            an experiment is wrong, or no experiment has the field of an override.
    """
    experiments, used, known = [], set[str](), set[str]()
    for file in _suite_files(suite):
        model = read_experiment(file, {}).model
        groups = field_groups(str(overrides.get("model", model))).values()
        fields = {name for group in groups for name in group.given()}
        experiments.append(read_experiment(file, _only(fields, overrides)))
        used |= fields & set(overrides)
        known |= fields
    for name in overrides:
        if name not in used:
            problem = unknown_field(name, list(known))
            raise UserError(f"No experiment of suite {suite} has it: {problem}")
    return experiments


def _suite_files(suite: str) -> list[Path]:
    path = find_file(
        suite if suite.endswith(".yaml") else Path(EXPERIMENTS, "suites", f"{suite}.yaml")
    )
    content = read_yaml(path)
    names = content.get("experiments")
    if not isinstance(names, list) or not names or set(content) != {"experiments"}:
        raise UserError(f"{path}: expected one field, 'experiments', with a list of names.")
    files = [find_file(path.parent.parent / f"{name}.yaml") for name in names]
    missing = [str(file) for file in files if not os.path.isfile(file)]  # of any name
    if missing:
        raise UserError(f"{path}: there is no experiment file {brief(', '.join(missing), 500)}.")
    return files


def _only(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _flags(overrides: Mapping[str, Any]) -> str:
    return brief(" ".join(f"--{name}={value}" for name, value in overrides.items()))
