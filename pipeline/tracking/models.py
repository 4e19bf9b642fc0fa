"""Models of runs: logged as a pyfunc made of code and plain files, and found again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.pyfunc
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from pipeline.code import distributions, own_code
from pipeline.data.dataset import Dataset
from pipeline.errors import UserError
from pipeline.models.base import Recommender
from pipeline.models.folder import FittedModel, load_model, save_model
from pipeline.serving.answers import ANSWER, DEFAULT_K, REQUEST_COLUMNS
from pipeline.tracking.fetched import fetch
from pipeline.tracking.runs import Run
from pipeline.tracking.store import ask

NAME = "model"
RECOMMENDER = "recommender"
PACKAGE = Path(__file__).parents[1]
REQUIREMENTS = (
    "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "scikit-learn", "scipy",
    "torch",
)  # fmt: skip
# Ids are text or whole numbers, or lists of them: no other type admits both.
IDS = AnyType()  # type: ignore[no-untyped-call]
TYPES = {str: "string", int: "long", float: "double"}
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(IDS, name, required=False) for name in REQUEST_COLUMNS]),
    outputs=Schema([ColSpec(TYPES[kind], name) for name, kind in ANSWER.items()]),
    params=ParamSchema([ParamSpec("k", "integer", DEFAULT_K)]),
)


def log_model(
    run: Run, name: str, recommender: Recommender, dataset: Dataset, own: Sequence[str] = ()
) -> None:
    """Log a fitted recommender of family ``name`` as the model of ``run``.

    ``own`` are the modules of one's own that it needs; their code is logged with it.
    """

    def save(room: Path) -> None:
        folder = Path(temporary) / RECOMMENDER
        folder.mkdir()
        save_model(name, recommender, dataset, folder)
        mlflow.pyfunc.save_model(
            room,
            python_model=str(PACKAGE / "tracking" / "served.py"),
            artifacts={RECOMMENDER: str(folder)},
            code_paths=[str(path) for path in (PACKAGE, *own_code(own))],
            pip_requirements=[
                f"{package}=={_public(version(package))}"
                for package in dict.fromkeys((*REQUIREMENTS, *distributions(own)))
            ],
            signature=SIGNATURE,
            input_example=(dataset.users[:2].astype(str), {"k": 5}),
        )

    with tempfile.TemporaryDirectory() as temporary:
        run.log_model(NAME, save)


def fetch_model(run: Run) -> FittedModel:
    """The model of a run, as a recommender.

    Raises:
        UserError: the run has none.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = ask(_download, run, folder)
            return load_model(path / "artifacts" / RECOMMENDER)
    except (MlflowException, OSError, UserError) as error:
        raise UserError(f"Run {run.id} has no model that can be loaded: {error}") from None


def _download(run: Run, folder: str) -> Path:
    """The files of a run's model.

    Raises:
        FileNotFoundError: it has none.
    """
    client = run.client
    outputs = client.get_run(run.id).outputs
    for each in outputs.model_outputs if outputs else []:
        model = client.get_logged_model(each.model_id)
        if model.name == NAME and model.status == LoggedModelStatus.READY:
            return fetch(client, model.artifact_location, "", Path(folder))
    raise FileNotFoundError(f"it has logged no {NAME}, or only a part of one")


def run_of_model(uri: str) -> Run:
    """The run that made a registered model, by ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        UserError: there is no such model.
    """
    try:
        name, _, alias = uri.removeprefix("models:/").partition("@")
        client = mlflow.MlflowClient()
        if alias:
            found = ask(client.get_model_version_by_alias, name, alias)
        else:
            name, _, number = name.partition("/")
            found = ask(client.get_model_version, name, number)
    except MlflowException as error:
        raise UserError(
            f"{uri}: {error}. Expected models:/NAME@ALIAS or models:/NAME/VERSION."
        ) from None
    if not found.run_id:
        raise UserError(f"{uri}: this model was made by no run.")
    return Run(found.run_id)


def _public(installed: str) -> str:
    """A version without its local part, which no index knows."""
    return installed.partition("+")[0]
