"""The model that MLflow serves: this file is run by MLflow when a logged model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from pipeline.errors import UserError
from pipeline.models.folder import load_model
from pipeline.serving.answers import DEFAULT_K, Answers, read_requests
from pipeline.serving.guard import guard_scoring_server


class ServedRecommender(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    """Top-k lists for people: by user id, or by the ids of items that they like."""

    def load_context(self, context: Any) -> None:
        """Load the recommender and its catalogue; index it where it is large."""
        self.answers = Answers(load_model(Path(context.artifacts["recommender"])))
        self.answers.index_items("auto", None, DEFAULT_K)
        guard_scoring_server()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Lists for the rows of ``model_input``, as ``Answers.answer`` has them.

        Raises:
            MlflowException: a request is not what it should be; served, that is status 400.
        """
        k = int((params or {}).get("k", DEFAULT_K))
        try:
            return self.answers.answer(read_requests(model_input), k)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


mlflow.models.set_model(ServedRecommender())
