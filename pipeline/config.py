"""What an experiment is: read from a YAML file, overridden by flags, checked as a whole.

Files and flags are flat, ``embedding_dim: 16`` or ``--embedding_dim 16``; the fields of the
experiment, of its split and of its model have different names, so each finds its own place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, SerializeAsAny

from pipeline.data.split import Quantile, SplitSettings
from pipeline.errors import UserError
from pipeline.models import family
from pipeline.models.base import Recommender
from pipeline.settings import Settings, unknown_field


class Experiment(Settings):
    """One model with its settings, one split, one seed."""

    name: str
    """The file's name without ending."""
    model: str
    """Which model, one of pipeline/models."""
    seed: int = Field(42, ge=0)
    """Of everything random in training."""
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((10,), min_length=1)
    """Lengths of the recommended lists; the first is the one that selection looks at."""
    windows: tuple[Quantile, ...] = (0.85,)
    """Quantiles of the training part at which validation windows are cut; empty for none."""
    split: SplitSettings = SplitSettings()
    params: SerializeAsAny[Settings]

    @property
    def selection_metric(self) -> str:
        """The validation metric that chooses among epochs and configurations."""
        return f"ndcg_at_{self.k[0]}"

    def recommender(self, **changes: Any) -> Recommender:
        """The unfitted model, with some of its settings changed."""
        params = self.params.model_copy(update=changes)
        return family(self.model)(params, self.seed)

    def flat(self) -> dict[str, Any]:
        """All fields under their flat names, as they would stand in a file."""
        values = self.model_dump(mode="json")
        split, params = values.pop("split"), values.pop("params")
        return {**values, **split, **params}


def read_experiment(config: Path, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment that a YAML file describes, with ``overrides`` on top.

    Raises:
        UserError: the file is missing or no YAML mapping, or a field is unknown or wrong.
    """
    values = {**_read_yaml(config), **overrides}
    where = str(config) + (f" with {_flags(overrides)}" if overrides else "")
    if "model" not in values:
        raise UserError(f"{where}: the field 'model' is missing")
    own = [name for name in Experiment.model_fields if name not in ("name", "split", "params")]
    split = list(SplitSettings.model_fields)
    params = family(str(values["model"])).settings_class
    unknown = set(values) - {*own, *split, *params.model_fields}
    if unknown:
        known = [*own, *split, *params.model_fields]
        raise UserError(
            f"{where}: " + "; ".join(unknown_field(name, known) for name in sorted(unknown))
        )
    return Experiment.read(
        {
            **_only(own, values),
            "name": config.stem,
            "split": SplitSettings.read(_only(split, values), where),
            "params": params.read(_only(params.model_fields, values), where),
        },
        where,
    )


def read_suite(suite: str, folder: Path = Path("experiments")) -> list[Path]:
    """The experiment files that ``suites/SUITE.yaml`` (or a path to such a file) lists.

    Raises:
        UserError: the file is missing, is no list of names, or names an experiment without file.
    """
    path = Path(suite) if suite.endswith(".yaml") else folder / "suites" / f"{suite}.yaml"
    content = _read_yaml(path)
    names = content.get("experiments")
    if not isinstance(names, list) or not names or set(content) != {"experiments"}:
        raise UserError(f"{path}: expected one field, 'experiments', with a list of names.")
    files = [path.parent.parent / f"{name}.yaml" for name in names]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{path}: there is no experiment file {', '.join(missing)}.")
    return files


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = ", ".join(sorted(file.name for file in path.parent.glob("*.yaml")))
        hint = f" In {path.parent} there are: {near}." if near else ""
        raise UserError(f"{path}: there is no such file.{hint}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: this cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected fields and values, as in 'model: ncf'.")
    return content


def _only(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _flags(overrides: Mapping[str, Any]) -> str:
    return " ".join(f"--{name}={value}" for name, value in overrides.items())
