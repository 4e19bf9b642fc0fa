"""Which data a run used, as MLflow datasets."""

from __future__ import annotations

import mlflow
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from mlflow.entities import DatasetInput, InputTag

from pipeline.data.prepared import Prepared
from pipeline.tracking.runs import Run


def log_dataset(run: Run, prepared: Prepared, context: str) -> None:
    """Log the prepared dataset as an input of ``run``; its digest is the fingerprint."""
    source = LocalArtifactDatasetSource(str(prepared.folder))
    name, digest = prepared.dataset.name, prepared.dataset.fingerprint
    meta = MetaDataset(source, name, digest)  # type: ignore[abstract]
    tags = [InputTag("mlflow.data.context", context)]
    entity = DatasetInput(meta._to_mlflow_entity(), tags)
    mlflow.MlflowClient().log_inputs(run.id, [entity])
